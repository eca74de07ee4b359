"""Small convolutional networks for training on devices: some 34,000 parameters, so that a client's update is 135 kB.

Group instead of batch normalisation: batches of clients whose classes differ have statistics that do not average.
Source: Hsieh, Phanishayee, Mutlu, Gibbons, "The Non-IID Data Quagmire of Decentralized Machine Learning", ICML 2020, section 5.
"""

from __future__ import annotations

from torch import nn

from runtime.models.pixels import PixelInput

CHANNELS = 16
GRID, TIME_GRID = 4, 8
"""Cells that features are averaged over: with group normalisation the mean over a whole picture says little."""


def compact_cnn(*, channels: int = 1, num_classes: int = 10, width: float = 1.0, pool: int = 1, pixels: bool = True) -> nn.Module:
    """Three strided convolutions with group normalisation, and a linear classifier that sees where things are; one exit.

    `pixels`: inputs are uint8 pictures [N, C, H, W] with sides from 8 `pool` on; else float32 of the same shape.  Squares of
    `pool` x `pool` pixels are averaged first, which makes a step so many times quicker.
    """
    a, b, c = (max(1, round(CHANNELS * width * factor)) for factor in (1, 2, 4))
    coarser = (nn.AvgPool2d(pool),) if pool > 1 else ()
    network = nn.Sequential(*coarser, _block(channels, a), _block(a, b), _block(b, c), *_classifier(c, (GRID, GRID), num_classes))
    return PixelInput(network) if pixels else network


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), _norm(outputs), nn.ReLU())


def compact_mlp(*, channels: int = 1, num_classes: int = 10, side: int = 8, hidden_size: int = 256, pixels: bool = True) -> nn.Module:
    """One hidden layer over pictures averaged down to `side` x `side`: a step takes next to nothing, an update of the default is 77 kB.

    Inputs as of `compact_cnn`, with sides from `side` on.
    """
    network = nn.Sequential(
        nn.AdaptiveAvgPool2d(side), nn.Flatten(), nn.Linear(channels * side**2, hidden_size), nn.ReLU(), nn.Linear(hidden_size, num_classes)
    )
    return PixelInput(network) if pixels else network


def activity_cnn(*, num_classes: int = 5, width: float = 1.0) -> nn.Module:
    """For windows of the phone-sensor set, float32 [N, 1, 6, T]: convolutions over time that see all six channels, one exit."""
    a, b = (max(1, round(CHANNELS * width * factor)) for factor in (2, 4))
    return nn.Sequential(
        nn.Conv2d(1, a, (6, 9), (1, 2), (0, 4), bias=False),
        _norm(a),
        nn.ReLU(),
        nn.Conv2d(a, b, (1, 9), (1, 2), (0, 4), bias=False),
        _norm(b),
        nn.ReLU(),
        *_classifier(b, (1, TIME_GRID), num_classes),
    )


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(4 if channels % 4 == 0 else 1, channels)


def _classifier(channels: int, grid: tuple[int, int], num_classes: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(grid), nn.Flatten(), nn.Linear(channels * grid[0] * grid[1], num_classes)
