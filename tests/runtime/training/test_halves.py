"""The two halves of a network are the network."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from runtime.errors import InvalidDecision, InvalidModel
from runtime.models.factories import make_network
from runtime.models.networks.compact import activity_cnn, compact_cnn
from runtime.models.zoo import ChainSpec, ConvSpec, ExitSpec
from runtime.training import flat
from runtime.training.halves import cut_in_two

CHAIN = ChainSpec(
    stages=((ConvSpec(channels=3),), (ConvSpec(channels=4, stride=2),), (ConvSpec(channels=5),)), exits=(ExitSpec(end=1), ExitSpec(end=3))
)
PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 1, 12, 12)).astype(np.uint8))


def multi_exit() -> nn.Module:
    """Three stages, exits behind the first and the last."""
    return make_network("runtime.models.network:conv_chain", msgspec.to_builtins(CHAIN) | {"num_classes": 10}, seed=0)


def outputs(module: nn.Module, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """As a list, whatever the module gives."""
    out = module(*inputs)
    return [out] if isinstance(out, torch.Tensor) else list(out)


@pytest.mark.parametrize(
    ("network", "cut", "inputs"),
    [
        *((multi_exit(), cut, PICTURES) for cut in (1, 2, 3)),
        *((compact_cnn(width=0.25), cut, PICTURES) for cut in (1, 2, 3, 5)),
        (compact_cnn(width=0.25, pool=2), 2, PICTURES.repeat_interleave(2, 2).repeat_interleave(2, 3)),
        *((activity_cnn(width=0.25), cut, torch.randn(4, 1, 6, 40)) for cut in (1, 4)),
    ],
)
def test_one_behind_the_other_is_the_network(network: nn.Module, cut: int, inputs: torch.Tensor) -> None:
    """The same logits of all exits, to the last bit; and every weight is on one side, and the network's own."""
    front, back = cut_in_two(network, cut)
    for whole, halves in zip(outputs(network, inputs), outputs(back, *outputs(front, inputs)), strict=True):
        torch.testing.assert_close(halves, whole, rtol=0, atol=0)
    assert flat.num_elements(front) + flat.num_elements(back) == flat.num_elements(network)
    flat.from_vector(front, flat.to_vector(front) + np.float32(1))
    flat.from_vector(back, flat.to_vector(back) + np.float32(1))
    assert {id(p) for half in (front, back) for p in half.parameters()} == {id(p) for p in network.parameters()}


def test_what_cannot_be_cut_is_refused() -> None:
    """A cut that is not there, one with nothing to train on a side, shared weights, a network without an order."""
    for cut in (0, 4):
        with pytest.raises(InvalidDecision, match=r"stages 1\.\.3"):
            cut_in_two(multi_exit(), cut)
    with pytest.raises(InvalidDecision, match="nothing is left to train"):
        cut_in_two(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 1)
    shared = nn.Linear(4, 4)
    with pytest.raises(InvalidModel, match="share weights"):
        cut_in_two(nn.Sequential(shared, nn.ReLU(), shared), 1)
    with pytest.raises(InvalidModel, match="Sequential"):
        cut_in_two(nn.Linear(4, 4), 1)
