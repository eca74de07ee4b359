"""Krum and multi-Krum: keep the updates whose nearest neighbours are nearest.  Clients weigh the same.

Source: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidConfig, InvalidInput
from runtime.training.aggregation.rule import ordered, stack
from runtime.training.update import Update, Vector


def krum_scores(vectors: np.ndarray, num_attackers: int) -> np.ndarray:
    """For each row of [K, P], the sum of its squared distances to its K - f - 2 (at least 1) nearest others: [K]; lower is better."""
    num_neighbours = min(max(len(vectors) - num_attackers - 2, 1), len(vectors) - 1)
    squared = np.stack([np.square(vectors - vector).sum(axis=1) for vector in vectors])
    np.fill_diagonal(squared, np.inf)
    return np.asarray(np.sort(squared, axis=1)[:, :num_neighbours].sum(axis=1))


class Krum(msgspec.Struct, frozen=True, kw_only=True):
    """The mean of the `num_selected` updates with the best Krum scores; with one, Krum itself."""

    num_attackers: int | None = None
    """f, how many may lie; needs K >= 2f + 3 updates.  None: the most that the round's K permits."""
    num_selected: int | None = 1
    """m, how many are averaged. None: K - f - 2, the most whose choice the analysis covers, and at least 1."""

    def __post_init__(self) -> None:
        if (self.num_attackers is not None and self.num_attackers < 0) or (self.num_selected is not None and self.num_selected < 1):
            raise InvalidConfig(f"Krum needs num_attackers >= 0 and num_selected >= 1, got {self.num_attackers} and {self.num_selected}")

    def num_tolerated(self, num_updates: int) -> int:
        """f of a round of K updates.  Raises InvalidInput when K < 2f + 3 for an f that was asked for."""
        if self.num_attackers is None:
            return max(0, (num_updates - 3) // 2)
        if self.num_attackers > 0 and num_updates < 2 * self.num_attackers + 3:
            raise InvalidInput(
                f"Krum needs {2 * self.num_attackers + 3} updates to tolerate {self.num_attackers} attackers, got {num_updates}; "
                "raise the round's quorum or lower num_attackers"
            )
        return self.num_attackers

    def select(self, updates: Sequence[Update]) -> list[Update]:
        """The chosen updates, best first; ties go to the smaller client name."""
        in_order = ordered(updates)
        vectors = stack(in_order)
        num_tolerated = self.num_tolerated(len(vectors))
        num_selected = max(len(vectors) - num_tolerated - 2, 1) if self.num_selected is None else min(self.num_selected, len(vectors))
        best = np.argsort(krum_scores(vectors, num_tolerated), kind="stable")[:num_selected]
        return [in_order[index] for index in best]

    def combine(self, updates: Sequence[Update]) -> Vector:
        """Float32 [P]."""
        return np.asarray(stack(self.select(updates)).mean(axis=0)).astype(np.float32)
