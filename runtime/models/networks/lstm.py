"""A sequence classifier that reads an image row by row, in chunks of time steps.

    layer 2        h,c ─► ... ─► ... ─► ... ─► classifier
    layer 1        h,c ─► ... ─► ... ─► ...
    rows           chunk 0  chunk 1  chunk 2

Chunk after chunk goes through all layers, the states carried on.  So a cut is possible between layers and between time
steps, and its tensors are what is left to do: the states h and c of each layer, and the rows not yet read.
Source: Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997; rows as time steps:
Le, Jaitly, Hinton, arXiv:1504.00941, section 4.2.
"""

from __future__ import annotations

import torch
from torch import nn


class LstmClassifier(nn.Module):
    """Stacked LSTM layers over chunks of a sequence, and a linear layer on the last state."""

    def __init__(self, features: int, num_classes: int, hidden: int, layers: int, chunks: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.LSTM(features if index == 0 else hidden, hidden, batch_first=True) for index in range(layers))
        self.classify = nn.Linear(hidden, num_classes)
        self.chunks = chunks

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """float32 [N, C, H, W] -> logits float32 [N, num_classes]; time steps are rows, features all pixels of a row"""
        rest = image.transpose(1, 2).flatten(2)
        states: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * len(self.layers)
        for length in _chunk_lengths(rest.shape[1], self.chunks):
            steps, rest = rest[:, :length], rest[:, length:]
            for index, layer in enumerate(self.layers):
                steps, states[index] = layer(steps, states[index])
        logits: torch.Tensor = self.classify(steps[:, -1])
        return logits


def lstm(
    *, channels: int = 1, size: int = 32, num_classes: int = 10, width: float = 1.0, layers: int = 2, chunks: int = 4
) -> LstmClassifier:
    """An LSTM for images [channels, size, size]: `layers` layers of 64 times `width` units, the rows in `chunks` parts."""
    return LstmClassifier(channels * size, num_classes, max(1, round(64 * width)), layers, chunks)


def _chunk_lengths(total: int, chunks: int) -> list[int]:
    """`total` in so many parts, as equal as can be."""
    return [total * (index + 1) // chunks - total * index // chunks for index in range(chunks)]
