"""From raw pictures to what a network computes on: scaled, and at a lower resolution where that is wanted."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

WHITE = 255.0


class PixelInput(nn.Module):
    """A network of float images behind one that takes uint8 pictures: 0..255 becomes 0..1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """uint8 [N, C, H, W] -> what the network returns"""
        result: torch.Tensor | list[torch.Tensor] = self.network(image.to(torch.float32) * (1 / WHITE))
        return result


class LowResolution(nn.Module):
    """A network behind an averaging of `factor` x `factor` pixels; sides that it does not divide lose the rest."""

    def __init__(self, network: nn.Module, factor: int) -> None:
        super().__init__()
        self.network = network
        self.factor = factor

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """uint8 or float32 [N, C, H, W] -> what the network returns for the smaller picture"""
        result: torch.Tensor | list[torch.Tensor] = self.network(functional.avg_pool2d(image.to(torch.float32), self.factor))
        return result
