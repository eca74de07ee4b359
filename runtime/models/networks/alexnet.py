"""AlexNet for small images with two early exits, after BranchyNet.

Source: Krizhevsky, "cuda-convnet" (the CIFAR-10 form of AlexNet), 2012; exits: Teerapittayanon, McDanel, Kung,
"BranchyNet", ICPR 2016, section IV (B-AlexNet: branches behind the first and second convolution).
"""

from __future__ import annotations

import torch
from torch import nn

from runtime.models.networks.blocks import scaled


class AlexNet(nn.Module):
    """Five convolutions, two fully connected layers; exits behind convolutions 1 and 2, and at the end."""

    def __init__(self, channels: int, size: int, num_classes: int, width: float) -> None:
        super().__init__()
        a, b, c, hidden = (scaled(channels, width) for channels in (32, 64, 96, 256))
        self.first = nn.Sequential(nn.Conv2d(channels, a, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.LocalResponseNorm(3))
        self.second = nn.Sequential(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.LocalResponseNorm(3))
        self.third = nn.Sequential(nn.Conv2d(b, c, 3, padding=1), nn.ReLU())
        self.fourth = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.ReLU())
        self.fifth = nn.Sequential(nn.Conv2d(c, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.classify = nn.Sequential(
            nn.Flatten(), nn.Linear(b * (size // 8) ** 2, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, num_classes)
        )
        self.exits = nn.ModuleList(_branch(inside, size // side, num_classes) for inside, side in ((a, 2), (b, 4)))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """float32 [N, channels, size, size] -> logits float32 [N, num_classes] of each exit"""
        first = self.first(image)
        second = self.second(first)
        last = self.classify(self.fifth(self.fourth(self.third(second))))
        return [self.exits[0](first), self.exits[1](second), last]


def alexnet(*, channels: int = 3, size: int = 32, num_classes: int = 10, width: float = 1.0) -> AlexNet:
    """B-AlexNet for images [channels, size, size], size a multiple of 8; `width` scales every layer but the last."""
    return AlexNet(channels, size, num_classes, width)


def _branch(in_channels: int, size: int, num_classes: int) -> nn.Sequential:
    """One convolution, pooling to at most 4x4, a linear classifier."""
    kernel = max(1, size // 4)
    side = size // kernel
    conv = nn.Conv2d(in_channels, 32, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(kernel), nn.Flatten(), nn.Linear(32 * side * side, num_classes))
