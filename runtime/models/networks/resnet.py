"""ResNet for small images with an exit behind every group of blocks.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2 (the CIFAR-10 form: 6n + 2 layers).
"""

from __future__ import annotations

import torch
from torch import nn

from runtime.models.networks.blocks import conv_norm, scaled

GROUP_CHANNELS = (16, 32, 64)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a skip connection, projected where the shape changes (option B)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(in_channels, out_channels, stride=stride)
        self.second = conv_norm(out_channels, out_channels)
        same = stride == 1 and in_channels == out_channels
        self.skip: nn.Module = nn.Identity() if same else conv_norm(in_channels, out_channels, 1, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, in, H, W] -> float32 [N, out, H/stride, W/stride]"""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.skip(x))


class Classifier(nn.Module):
    """Global average pooling and a linear layer."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, C, H, W] -> logits float32 [N, num_classes]"""
        logits: torch.Tensor = self.linear(x.mean((2, 3)))
        return logits


class ResNet(nn.Module):
    """A stem, then three groups of residual blocks, each group with a classifier behind it."""

    def __init__(self, channels: int, num_classes: int, blocks: int, width: float) -> None:
        super().__init__()
        inside = scaled(GROUP_CHANNELS[0], width)
        self.stem = nn.Sequential(conv_norm(channels, inside), nn.ReLU())
        self.groups = nn.ModuleList()
        self.exits = nn.ModuleList()
        for number, wanted in enumerate(GROUP_CHANNELS):
            out = scaled(wanted, width)
            shapes = [(inside if index == 0 else out, out, 2 if index == 0 and number else 1) for index in range(blocks)]
            self.groups.append(nn.Sequential(*(ResidualBlock(*shape) for shape in shapes)))
            self.exits.append(Classifier(out, num_classes))
            inside = out

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """float32 [N, channels, H, W] -> logits float32 [N, num_classes] of each exit"""
        x = self.stem(image)
        logits = []
        for group, branch in zip(self.groups, self.exits, strict=True):
            x = group(x)
            logits.append(branch(x))
        return logits


def resnet(*, channels: int = 3, num_classes: int = 10, blocks: int = 3, width: float = 1.0) -> ResNet:
    """ResNet-(6 blocks + 2) for images of any size from 8x8; `width` scales every layer."""
    return ResNet(channels, num_classes, blocks, width)
