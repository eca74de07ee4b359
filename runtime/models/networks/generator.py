"""DCGAN's generator: a latent vector in, an image out.  There are no classes.

Source: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional GANs", ICLR 2016, figure 1.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from runtime.errors import InvalidModel
from runtime.models.networks.blocks import scaled


class Generator(nn.Module):
    """A projection to 4x4 maps, then transposed convolutions that double the side until the image is there."""

    def __init__(self, channels: int, size: int, latent: int, width: float) -> None:
        super().__init__()
        doublings = (size // 4).bit_length() - 1
        widths = [scaled(32 * 2**step, width) for step in reversed(range(doublings))]
        self.project = nn.Sequential(nn.ConvTranspose2d(latent, widths[0], 4, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.grow = nn.Sequential(*(_doubling(a, b) for a, b in pairwise(widths)))
        self.draw = nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """float32 [N, latent] -> image float32 [N, channels, size, size] in [-1, 1]"""
        return torch.tanh(self.draw(self.grow(self.project(latent[:, :, None, None]))))


def generator(*, channels: int = 3, size: int = 32, latent: int = 100, width: float = 1.0) -> Generator:
    """DCGAN's generator of images [channels, size, size], size 8, 16, 32 or 64.  Raises InvalidModel for another size."""
    if size not in (8, 16, 32, 64):
        raise InvalidModel(f"the generator doubles 4x4 maps: size must be 8, 16, 32 or 64, got {size}")
    return Generator(channels, size, latent, width)


def _doubling(in_channels: int, out_channels: int) -> nn.Sequential:
    grow = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(grow, nn.BatchNorm2d(out_channels), nn.ReLU())
