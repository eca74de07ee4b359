"""MobileNetV2 for small images: inverted residual blocks with linear bottlenecks.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2; strides of the stem
and the first groups taken down to 1, as is usual for 32x32 images.
"""

from __future__ import annotations

import torch
from torch import nn

from runtime.models.networks.blocks import conv_norm, scaled

GROUPS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of the first block."""


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel by a 3x3, project back; a skip connection where shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [conv_norm(in_channels, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        self.body = nn.Sequential(
            *expand, conv_norm(hidden, hidden, stride=stride, groups=hidden), nn.ReLU6(), conv_norm(hidden, out_channels, 1)
        )
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, in, H, W] -> float32 [N, out, H/stride, W/stride]"""
        result: torch.Tensor = self.body(x)
        return x + result if self.has_skip else result


def mobilenet(*, channels: int = 3, num_classes: int = 10, width: float = 1.0, groups: int = len(GROUPS)) -> nn.Sequential:
    """MobileNetV2 for images of any size from 8x8, one exit; `width` scales every layer, `groups` keeps only the first so many."""
    inside = scaled(32, width)
    layers: list[nn.Module] = [conv_norm(channels, inside), nn.ReLU6()]
    for expansion, wanted, blocks, stride in GROUPS[:groups]:
        out = scaled(wanted, width)
        for index in range(blocks):
            layers.append(InvertedResidual(inside, out, stride if index == 0 else 1, expansion))
            inside = out
    last = scaled(1280, max(1.0, width))
    return nn.Sequential(
        *layers, conv_norm(inside, last, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, num_classes)
    )
