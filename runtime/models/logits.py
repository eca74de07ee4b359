"""What the exits of a torch network say to many pictures, and how often they are right."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from runtime.models.examples import Examples
from runtime.models.fitting import one_thread

BATCH_SIZE = 250


def exit_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, 1, C, H, W] -> logits float32 [E, N, num_classes], in evaluation mode on one thread."""
    network.eval()
    with one_thread(), torch.inference_mode():
        batches = torch.split(torch.from_numpy(images[:, 0]), BATCH_SIZE)
        parts = [torch.stack(list(network(batch))) for batch in batches]
        logits: np.ndarray = torch.cat(parts, dim=1).numpy()
    return logits


def exit_accuracies(network: nn.Module, examples: Examples) -> list[float]:
    """Share of the examples that each exit gets right."""
    answers = exit_logits(network, examples.images).argmax(axis=2)
    return [float(share) for share in (answers == examples.labels).mean(axis=1)]
