"""Joint training of all exits: the loss is the weighted sum of the branches' cross-entropies.

Source: Teerapittayanon, McDanel, Kung, "BranchyNet", ICPR 2016, section III.B.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from runtime.models.examples import Examples
from runtime.models.network import MultiExitNetwork
from runtime.models.zoo import FitSpec, ModelSpec


def fit(spec: ModelSpec, num_classes: int, train: Examples, progress: Callable[[float], None]) -> MultiExitNetwork:
    """Train from scratch, seeded; `progress` hears the share done after each epoch.  Leaves the caller's generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.fit.seed)
        network = MultiExitNetwork(spec, num_classes)
        images, labels = torch.from_numpy(train.images[:, 0]), torch.from_numpy(train.labels)
        num_batches = len(labels) // spec.fit.batch_size
        weights = torch.tensor([branch.loss_weight for branch in spec.exits])
        optimiser = torch.optim.AdamW(network.parameters(), lr=spec.fit.learning_rate)
        num_steps = spec.fit.epochs * num_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=spec.fit.learning_rate, total_steps=num_steps)
        network.train()
        for epoch in range(spec.fit.epochs):
            order = torch.randperm(len(labels))[: num_batches * spec.fit.batch_size]
            for index in torch.split(order, spec.fit.batch_size):
                _, logits = network(_shifted(images[index], spec.fit))
                losses = torch.stack([functional.cross_entropy(branch, labels[index]) for branch in logits])
                optimiser.zero_grad()
                torch.autograd.backward(losses @ weights)
                optimiser.step()
                schedule.step()
            progress((epoch + 1) / spec.fit.epochs)
    return network


def _shifted(images: torch.Tensor, spec: FitSpec) -> torch.Tensor:
    """Each picture [N, 1, H, W] moved by its own random offset; what comes in at the border is blank."""
    limit, (height, width) = spec.max_shift_pixels, images.shape[2:]
    padded = functional.pad(images, (limit, limit, limit, limit))
    offsets = torch.randint(0, 2 * limit + 1, (len(images), 2)).tolist()
    return torch.stack([picture[:, y : y + height, x : x + width] for picture, (y, x) in zip(padded, offsets, strict=True)])
