"""Parameters and operations against hand-computed counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from runtime.models.counting import count_flops, count_parameters


@pytest.mark.parametrize(
    ("network", "shape", "flops", "parameters"),
    [
        (nn.Linear(5, 7), (1, 5), 2 * 5 * 7, 5 * 7 + 7),
        (nn.Linear(5, 7), (3, 5), 3 * 2 * 5 * 7, 5 * 7 + 7),
        (nn.Conv2d(4, 6, 3, bias=False), (1, 4, 8, 8), 2 * 4 * 9 * 6 * 36, 4 * 9 * 6),
        (nn.Conv2d(6, 6, 3, groups=6), (1, 6, 8, 8), 2 * 9 * 6 * 36, 9 * 6 + 6),
        (nn.BatchNorm2d(4), (1, 4, 5, 5), 2 * 4 * 25, 2 * 4),
        (nn.LSTM(5, 7, batch_first=True), (2, 3, 5), 2 * 2 * 3 * 4 * 7 * (5 + 7), 4 * 7 * (5 + 7) + 2 * 4 * 7),
        (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), (1, 1, 4, 4), 0, 0),
    ],
    ids=["linear", "batch", "convolution", "depthwise", "batch norm", "lstm", "not counted"],
)
def test_counts_by_hand(network: nn.Module, shape: tuple[int, ...], flops: int, parameters: int) -> None:
    """A multiply-accumulate counts two, a normalised value two, an LSTM step its two matrix products."""
    assert count_flops(network, torch.zeros(shape)) == flops
    assert count_parameters(network) == parameters


def test_counting_leaves_the_network_as_it_was() -> None:
    """Neither mode nor running statistics change."""
    network = nn.BatchNorm2d(2).train()
    count_flops(network, torch.ones(1, 2, 3, 3))
    assert network.training
    assert network.running_mean is not None
    assert network.running_mean.tolist() == [0.0, 0.0]
