"""Exits added to chains and residual networks: the last is the network itself, the others need only what is before them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from runtime.errors import InvalidConfig
from runtime.models.counting import count_flops
from runtime.models.exits import ExitHead, add_exits, find_places
from tests.runtime.models.small_networks import Residual, picture, random_norms


def chain() -> nn.Module:
    """Convolutions, then linear layers: places with feature maps and one with a vector."""
    features = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 5))


IMAGES = torch.rand((6, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def pictures() -> torch.Tensor:
    """A batch for the residual network."""
    return torch.randint(0, 256, (5, 1, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_last_exit_is_the_network(at: int) -> None:
    """Whatever the number of exits, the last gives what the network gave without them; all have the same classes."""
    for network, images in ((chain().eval(), IMAGES), (random_norms(Residual()), pictures())):
        logits = add_exits(network, images[:1], at=at)(images)
        assert [tuple(branch.shape) for branch in logits] == [(len(images), logits[-1].shape[1])] * (at + 1)
        torch.testing.assert_close(logits[-1], network(images), rtol=0, atol=0)


def test_places_of_a_chain() -> None:
    """One place between two layers with weights: behind activation and pooling, but before the map becomes a vector.

    Operations: 2*9*4*36 = 2592, 2*9*4*8*16 = 9216, 2*32*16 = 1024, 2*16*16 = 512, 2*16*5 = 160.
    """
    places = find_places(chain(), IMAGES[:1])
    assert [place.shape for place in places] == [(1, 4, 6, 6), (1, 8, 2, 2), (1, 16)]
    done = [2592, 2592 + 9216, 2592 + 9216 + 1024]
    assert [place.compute_fraction for place in places] == pytest.approx([flops / 13504 for flops in done])


def test_places_inside_a_skip_do_not_exist() -> None:
    """While a skip connection is open two tensors are live; what is left are the ends of the blocks."""
    assert [place.name for place in find_places(Residual(), picture())] == ["stem_2", "relu_1", "down_2"]


def test_exits_are_spread_over_the_compute() -> None:
    """A number takes the places nearest to even shares, each once; the chain's are at 19, 87 and 95 %."""
    names = [place.name for place in find_places(chain(), IMAGES[:1])]
    for at, expected in ((1, names[:1]), (2, names[:2]), (3, names)):
        network = add_exits(chain(), IMAGES[:1], at=at)
        heads = [node.args[0].name for node in network.graph.nodes if str(node.target).startswith("exit_head")]
        assert heads == expected


def test_named_places_are_taken_in_the_networks_order() -> None:
    """Names in any order give the exits that they name."""
    network = add_exits(Residual(), picture(), at=["down_2", "stem_2"])
    heads = [module for module in network.modules() if isinstance(module, ExitHead)]
    assert [head.classify.in_features for head in heads] == [16, 32]


def test_exits_need_only_their_prefix() -> None:
    """An exit's value and gradient come from the layers before it: the ones behind may hold anything."""
    network = add_exits(Residual(), pictures()[:1], at=["relu_1"]).eval()
    before = network(pictures())
    later = [parameter for name, parameter in network.named_parameters() if name.startswith(("down", "second", "classify"))]
    with torch.no_grad():
        for parameter in later:
            parameter.fill_(float("nan"))
    after = network(pictures())
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    assert after[1].isnan().all()
    after[0].sum().backward()
    assert network.get_parameter("stem.0.weight").grad is not None
    assert all(parameter.grad is None for parameter in later)


def test_weights_are_shared_and_the_network_untouched() -> None:
    """The layers are the network's own, its output and its mode are as before, and exits cost only their classifiers."""
    network = Residual().train()
    parameters = set(network.parameters())
    extended = add_exits(network, picture(), at=1)
    assert parameters < set(extended.parameters())
    assert extended.training
    assert network.training
    assert isinstance(network(pictures()), torch.Tensor)
    assert count_flops(extended, picture()) - count_flops(network, picture()) == 2 * 16 * 3


def test_seed_draws_the_classifiers() -> None:
    """The same seed gives the same classifiers, and the caller's generator is left alone."""
    network = Residual()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, again, other = (add_exits(network, picture(), at=1, seed=seed).exit_head_0.classify.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class Branching(nn.Module):
    """What it computes depends on values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C] -> [N, C]"""
        return x if x.sum() > 0 else -x


def test_what_cannot_have_exits_says_why() -> None:
    """Control flow, several outputs, other classes, too many exits, unknown places."""
    with pytest.raises(InvalidConfig, match="cannot be traced"):
        add_exits(Branching(), torch.ones(1, 2), at=1)
    with pytest.raises(InvalidConfig, match="one tensor of logits"):
        add_exits(add_exits(Residual(), picture(), at=1), picture(), at=1)
    with pytest.raises(InvalidConfig, match="num_classes is 10, but Residual returns 3"):
        add_exits(Residual(), picture(), at=1, num_classes=10)
    with pytest.raises(InvalidConfig, match=r"places for 1\.\.3"):
        add_exits(Residual(), picture(), at=4)
    with pytest.raises(InvalidConfig, match="stem_2, relu_1, down_2"):
        add_exits(Residual(), picture(), at=["stem_2", "nowhere"])
