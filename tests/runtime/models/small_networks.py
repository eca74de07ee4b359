"""Networks that train within a test: with a skip connection, a depthwise convolution and exits, and without."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from runtime.models.examples import Examples

SIDE = 12


class Skip(nn.Module):
    """A residual block whose inner convolution is depthwise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.outer = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> the same shape"""
        return torch.relu(x + self.outer(torch.relu(self.norm(self.inner(x)))))


class Residual(nn.Module):
    """uint8 pictures -> one tensor of logits: convolution, skip, convolution of stride 2, skip, classifier."""

    def __init__(self, channels: int = 16, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.first = Skip(channels)
        self.down = nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * channels), nn.ReLU())
        self.second = Skip(2 * channels)
        self.classify = nn.Linear(2 * channels, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """uint8 [N, 1, H, W] -> logits [N, num_classes]"""
        x = self.second(self.down(self.first(self.stem(image.to(torch.float32) / 255))))
        logits: torch.Tensor = self.classify(x.mean((2, 3)))
        return logits


def stripes(num: int, seed: int) -> Examples:
    """Noisy pictures of horizontal, vertical or no stripes: easy, and the same when mirrored or moved."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.int64) % 3
    wave = np.where(np.arange(SIDE) % 4 < 2, 1.0, 0.0)
    patterns = np.stack([np.tile(wave[:, None], (1, SIDE)), np.tile(wave, (SIDE, 1)), np.full((SIDE, SIDE), 0.5)])
    images = (40 + 120 * patterns[labels] + rng.normal(0, 20, (num, SIDE, SIDE))).clip(0, 255).astype(np.uint8)
    return Examples(images=images[:, None, None], labels=labels)


def picture() -> torch.Tensor:
    """One input."""
    return torch.from_numpy(stripes(1, 0).images[0])


def random_norms(network: nn.Module) -> nn.Module:
    """The network with batch normalisations as if it had been trained: new ones are all alike."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean)
    return network.eval()
