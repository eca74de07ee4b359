"""Order statistics of each coordinate: bounded by honest values while attackers are few.  Clients weigh the same.

Source: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018, Definitions 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidConfig
from runtime.training.aggregation.rule import stack
from runtime.training.update import Update, Vector


class CoordinateMedian(msgspec.Struct, frozen=True, kw_only=True):
    """The median of each coordinate: between honest values under fewer than K/2 attackers."""

    def combine(self, updates: Sequence[Update]) -> Vector:
        """Float32 [P]."""
        return np.asarray(np.median(stack(updates), axis=0)).astype(np.float32)


def trimmed_mean(vectors: np.ndarray, num_trimmed: int) -> np.ndarray:
    """The mean of each coordinate of [K, P] without its `num_trimmed` smallest and as many largest values: [P].  2 num_trimmed < K."""
    kept = np.sort(vectors, axis=0)[num_trimmed : len(vectors) - num_trimmed]
    return np.asarray(kept.mean(axis=0))


class TrimmedMean(msgspec.Struct, frozen=True, kw_only=True):
    """The mean of each coordinate without its extremes: between honest values under up to floor(trim_fraction K) attackers."""

    trim_fraction: float = 0.2
    """Share of the clients that is cut off at each end."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.trim_fraction < 0.5:
            raise InvalidConfig(f"trim_fraction must be in [0, 0.5), got {self.trim_fraction}")

    def num_trimmed(self, num_updates: int) -> int:
        """Values cut off at each end, which is how many attackers are tolerated."""
        return int(self.trim_fraction * num_updates + 1e-9)

    def combine(self, updates: Sequence[Update]) -> Vector:
        """Float32 [P]."""
        vectors = stack(updates)
        return trimmed_mean(vectors, self.num_trimmed(len(vectors))).astype(np.float32)
