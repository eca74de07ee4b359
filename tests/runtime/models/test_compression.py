"""Every form of a trained network: the same raw input and exits, less work, and it still knows what it learnt."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from runtime.errors import InvalidConfig
from runtime.models.compression import FORMS, Trained, lowres, slim
from runtime.models.counting import count_flops
from runtime.models.exits import add_exits
from runtime.models.fitting import seeded, train_network
from runtime.models.logits import exit_accuracies
from runtime.models.pixels import LowResolution, PixelInput
from runtime.models.zoo import FitSpec
from tests.runtime.models.small_networks import Residual, picture, stripes

FIT = FitSpec(epochs=3, batch_size=20, learning_rate=0.02, max_shift_pixels=0)
SHARES = {"dense": 1.0, "lowres": 0.3, "pruned": 0.5, "slim": 0.25}


def factory(width: float) -> nn.Module:
    """A residual network with two exits, 32 channels at width 1."""
    return add_exits(Residual(channels=round(32 * width)), picture(), at=["relu_1"])


@pytest.fixture(scope="module")
def trained() -> Trained:
    """The network at full width, trained."""
    with seeded(0):
        network = factory(1.0)
    train = stripes(300, 1)
    train_network(network, train, FIT)
    return Trained(network=network, factory=factory, train=train, fit=FIT)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_forms_are_smaller_and_still_right(trained: Trained, form: str) -> None:
    """Less work as promised, two exits of three classes on the same pictures, good accuracy at each, the original untouched."""
    before = copy.deepcopy(trained.network.state_dict())
    told: list[float] = []
    network = FORMS[form](trained, told.append)
    assert count_flops(network, picture()) <= SHARES[form] * count_flops(trained.network, picture())
    assert [tuple(branch.shape) for branch in network(picture())] == [(1, 3)] * 2
    assert min(exit_accuracies(network, stripes(90, 2))) > 0.9
    assert all(torch.equal(value, before[name]) for name, value in trained.network.state_dict().items())
    assert not network.training
    assert told[-1:] == ([] if form == "dense" else [1.0])


def test_first_form_is_the_identity(trained: Trained) -> None:
    """The family begins with the network as it is."""
    assert next(iter(FORMS)) == "dense"
    assert FORMS["dense"](trained, None) is trained.network


def test_lower_resolution_averages_blocks() -> None:
    """Four pixels become their mean; a row that is over is left out."""
    image = torch.tensor([[[[0, 4, 9], [8, 8, 9], [9, 9, 9]]]], dtype=torch.uint8)
    assert LowResolution(nn.Identity(), 2)(image).tolist() == [[[[5.0]]]]


def test_pixels_become_shares_of_white() -> None:
    """0 is 0 and 255 is 1."""
    torch.testing.assert_close(PixelInput(nn.Identity())(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0.0, 0.2, 1.0]))


def test_networks_of_one_size_cannot_be_scaled_down(trained: Trained) -> None:
    """A linear layer on flattened pixels is told apart, and a factor larger than the picture."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(144, 3)

        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [self.linear(image.to(torch.float32).flatten(1))]

    flat = Trained(network=Flat(), factory=lambda width: Flat(), train=trained.train, fit=FIT)
    with pytest.raises(InvalidConfig, match="Flat does not work at 1/2"):
        lowres(flat)
    with pytest.raises(InvalidConfig, match="no width"):
        slim(flat)
    with pytest.raises(InvalidConfig, match="1/13"):
        lowres(trained, factor=13)
