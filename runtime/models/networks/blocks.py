"""What several networks share: scaled widths, and a convolution with its normalisation."""

from __future__ import annotations

from torch import nn


def scaled(channels: int, width: float, multiple: int = 8) -> int:
    """Channels times the width multiplier, a positive multiple of `multiple`, and not under nine tenths of what was asked.

    Source: Sandler et al., "MobileNetV2", CVPR 2018, section 3.3 (width multiplier); rounding as in its authors' code.
    """
    asked = channels * width
    rounded = max(multiple, int(asked + multiple / 2) // multiple * multiple)
    return rounded if rounded >= 0.9 * asked else rounded + multiple


def conv_norm(in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution that keeps the size (but for its stride), and batch normalisation."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
