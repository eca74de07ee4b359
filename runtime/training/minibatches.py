"""Which examples a step sees, as a function of seed and step: a checkpoint needs the step's number and nothing else."""

from __future__ import annotations

import numpy as np


def minibatch(num_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """int64 indices of one step's batch: epochs are shuffled anew, an incomplete last batch is left out.

    A client with fewer examples than a batch sees all of them in every step.
    """
    size = min(batch_size, num_examples)
    epoch, position = divmod(step, num_examples // size)
    order = np.random.default_rng([seed, epoch]).permutation(num_examples)
    return order[position * size : (position + 1) * size]


def step_seed(seed: int, step: int) -> int:
    """Seed of what else is random in a step, such as dropout."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
