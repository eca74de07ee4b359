"""The base of a knowledge transfer as it lies at nodes that hand it out, and by what name others say that they hold it."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np


class LaidBase(NamedTuple):
    """What clients need of the base."""

    vector: np.ndarray
    """float32 [F]."""
    digest: str

    @classmethod
    def of(cls, vector: np.ndarray) -> LaidBase:
        """With its digest."""
        return cls(vector, digest_of(vector))


def digest_of(vector: np.ndarray) -> str:
    """SHA-256 of the values, in hexadecimal."""
    return hashlib.sha256(vector.tobytes()).hexdigest()
