"""Which cells of a picture are occupied: a fully convolutional network, one pair of logits for each cell of a grid.

A convolution of stride 2 for every halving from pixels to cells, two more that look at the neighbouring cells, and a
classifier of 1x1.  The same weights answer for a picture of any size: a cut-out has the answers of its cells.
Source of the form: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 3.1.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_state
from torch import nn

from runtime.errors import InvalidModel
from runtime.models.networks.blocks import conv_norm, scaled

CHANNELS = 8
"""Of the first convolution; every halving doubles them, up to MAX_CHANNELS."""
MAX_CHANNELS = 48
MAX_STRIDE = 64


class CellNetwork(nn.Module):
    """See the module; `stride` pixels a side make one cell."""

    def __init__(self, channels: int, stride: int, width: float) -> None:
        super().__init__()
        halvings = stride.bit_length() - 1
        widths = [channels, *(scaled(min(MAX_CHANNELS, CHANNELS * 2**step), width) for step in range(halvings))]
        blocks = [_block(widths[step], widths[step + 1], 2) for step in range(halvings)]
        self.reduce = nn.Sequential(*blocks)
        self.surround = nn.Sequential(*(_block(widths[-1], widths[-1], 1) for _ in range(2)))
        self.classify = nn.Conv2d(widths[-1], 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """float32 [N, C, H, W] in 0..1 -> logits of free and occupied, float32 [N, 2, H/stride, W/stride]"""
        logits: torch.Tensor = self.classify(self.surround(self.reduce(image)))
        return logits


def cell_network(*, channels: int = 3, stride: int = 16, width: float = 1.0, weights: str = "") -> CellNetwork:
    """The network with weights from torch's global generator, or from a safetensors file of its state.

    Raises InvalidModel for a stride that is no power of two in 2..64, and for a file that does not hold its weights.
    """
    if not 2 <= stride <= MAX_STRIDE or stride & (stride - 1):
        raise InvalidModel(f"a cell has 2, 4, ... {MAX_STRIDE} pixels a side, got {stride}")
    network = CellNetwork(channels, stride, width)
    if weights:
        try:
            network.load_state_dict(load_state(Path(weights).read_bytes()))
        except (OSError, SafetensorError, RuntimeError) as exc:
            raise InvalidModel(f"{weights} does not hold the weights of a cell network of stride {stride}: {exc}; train it anew") from exc
    return network


def _block(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(conv_norm(in_channels, out_channels, stride=stride), nn.ReLU())
