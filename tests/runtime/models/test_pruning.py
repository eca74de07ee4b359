"""Channels are really gone, those that mattered least, and everything that touched them fits again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from runtime.errors import InvalidConfig
from runtime.models.counting import count_flops, count_parameters
from runtime.models.exits import add_exits
from runtime.models.pruning import Importance, prune, remove_channels
from tests.runtime.models.small_networks import Residual, picture, random_norms


def network() -> nn.Module:
    """Residual blocks with depthwise convolutions, three exits."""
    return random_norms(add_exits(Residual(channels=32), picture(), at=2))


@pytest.mark.parametrize(("importance", "share"), [("batch_norm", 0.7), ("l1", 0.5), ("l2", 0.3)])
def test_work_is_cut_to_the_share_asked_for(importance: Importance, share: float) -> None:
    """FLOPs end at the share or somewhat below, parameters fall too, logits keep their shapes, no mask is left."""
    before = network()
    smaller = prune(before, picture(), flops_share=share, importance=importance, round_to=1)
    ratio = count_flops(smaller, picture()) / count_flops(before, picture())
    assert share - 0.15 < ratio <= share
    assert count_parameters(smaller) < count_parameters(before)
    assert [branch.shape for branch in smaller(picture())] == [branch.shape for branch in before(picture())]
    assert {name for name, _ in smaller.named_buffers()} == {name for name, _ in before.named_buffers()}


def test_the_network_itself_is_left_alone() -> None:
    """Pruning works on a copy."""
    before = network()
    expected = copy.deepcopy(before.state_dict())
    remove_channels(before, picture(), ratio=0.5, importance="l2")
    assert all(torch.equal(value, expected[name]) for name, value in before.state_dict().items())


def test_both_ends_of_a_skip_and_depthwise_filters_lose_together() -> None:
    """In a block, what enters, what is added and the depthwise filters in between have the same channels left."""
    smaller = remove_channels(network(), picture(), ratio=0.4, importance="batch_norm")
    for block in ("first", "second"):
        inner, outer = (smaller.get_submodule(f"{block}.{name}") for name in ("inner", "outer"))
        assert isinstance(inner, nn.Conv2d)
        assert isinstance(outer, nn.Conv2d)
        assert inner.groups == inner.in_channels == inner.out_channels == outer.in_channels == outer.out_channels


def test_dead_channels_go_first_and_nothing_changes() -> None:
    """Channels of zero scale and offset contribute nothing: without them a chain computes what it did."""
    layers = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
    chain = random_norms(nn.Sequential(*layers, nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)))
    with torch.no_grad():
        for norm, dead in ((chain[1], [1, 4, 6, 7]), (chain[4], list(range(8)))):
            norm.weight[dead], norm.bias[dead] = 0.0, 0.0
            norm.weight.abs_()
    extended = add_exits(chain, torch.zeros(1, 1, 12, 12), at=1)
    smaller = remove_channels(extended, torch.zeros(1, 1, 12, 12), ratio=0.5, importance="batch_norm")
    kept = [module.out_channels for module in smaller.modules() if isinstance(module, nn.Conv2d)]
    assert kept == [4, 8, 16]
    images = torch.rand(5, 1, 12, 12)
    torch.testing.assert_close(smaller(images), extended(images), rtol=1e-4, atol=1e-5)


def test_widths_are_rounded_to_blocks() -> None:
    """Channel counts stay multiples of what kernels like."""
    smaller = remove_channels(network(), picture(), ratio=0.4, importance="l1", round_to=8)
    assert count_parameters(smaller) < count_parameters(network())
    assert all(module.out_channels % 8 == 0 for module in smaller.modules() if isinstance(module, nn.Conv2d))


def test_impossible_shares_are_refused() -> None:
    """Nothing, everything, and less than the last channels need."""
    for share in (0.0, 1.0):
        with pytest.raises(InvalidConfig, match="between 0 and 1"):
            prune(network(), picture(), flops_share=share)
    with pytest.raises(InvalidConfig, match="allow more"):
        prune(network(), picture(), flops_share=0.001)


class Reshaping(nn.Module):
    """Its feature map is read as a sequence of a length that is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.lstm = nn.LSTM(12, 6, batch_first=True)
        self.classify = nn.Linear(8 * 12 * 6, 3)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """uint8 [N, 1, 12, 12] -> logits of one exit"""
        rows, _ = self.lstm(self.conv(image.to(torch.float32)).reshape(-1, 8 * 12, 12))
        return [self.classify(rows.reshape(-1, 8 * 12 * 6))]


def test_networks_that_cannot_be_pruned_say_so() -> None:
    """Without normalisation there is nothing to rank by; constants in a reshape do not follow the channels."""
    with pytest.raises(InvalidConfig, match="no batch normalisation"):
        prune(Reshaping(), picture(), flops_share=0.5)
    with pytest.raises(InvalidConfig, match="cannot be pruned"):
        remove_channels(Reshaping(), picture(), ratio=0.5, importance="l1")
