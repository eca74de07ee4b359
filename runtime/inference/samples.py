"""Inputs without meaning, for timing."""

from __future__ import annotations

import numpy as np

from runtime.messages import TensorSpec


def sample(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Some valid tensor of that shape and dtype: floats standard normal, integers anywhere in -128..255 that fits."""
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(spec.shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, -128), min(info.max, 255), size=spec.shape, endpoint=True).astype(dtype)
