"""Inputs without meaning, for timing."""

from __future__ import annotations

import numpy as np

from runtime.messages import TensorSpec


def sample(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Some valid tensor of that shape and dtype: floats standard normal, bytes anything that fits.

    Integers of more bytes are taken for indices into some table: 0 or 1, which every table has.
    """
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(spec.shape).astype(dtype)
    info = np.iinfo(dtype)
    lowest, highest = (0, 1) if dtype.itemsize > 1 else (info.min, info.max)
    return rng.integers(lowest, highest, size=spec.shape, endpoint=True).astype(dtype)
