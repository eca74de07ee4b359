"""Torch's random numbers during one step of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from runtime.models.fitting import one_thread
from runtime.training.minibatches import step_seed


@contextmanager
def step_randomness(seed: int, step: int) -> Iterator[None]:
    """Torch's generator as its client's `seed` and the step's number decide, one thread; both as before afterwards.

    The numbers are those of `torch.manual_seed`.  That also seeds devices that are not there, and formats the call stack for each:
    on small networks it took longer than the step.
    """
    before = torch.get_rng_state()
    with one_thread():
        torch.default_generator.manual_seed(step_seed(seed, step))
        try:
            yield
        finally:
            torch.set_rng_state(before)
