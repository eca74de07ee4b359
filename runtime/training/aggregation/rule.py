"""What a combination rule is: a round's updates in, one vector out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from runtime.errors import InvalidTensor
from runtime.training.update import Update, Vector, find_defect


class Rule(Protocol):
    """Combines the updates of one round.  Stateless, and blind to the order in which they came."""

    def combine(self, updates: Sequence[Update]) -> Vector:
        """One float32 vector [P] for K >= 1 updates.  Raises InvalidTensor for arrays that differ in shape or are not finite."""
        ...


def ordered(updates: Sequence[Update]) -> list[Update]:
    """The updates by client name: float sums depend on the order, results must not."""
    return sorted(updates, key=lambda update: update.header.client)


def stack(updates: Sequence[Update]) -> np.ndarray:
    """Deltas as float64 [K, P], in the order given.  Raises InvalidTensor when there are none, or one cannot be aggregated."""
    if not updates:
        raise InvalidTensor("nothing to aggregate: expected one update or more, got none")
    num_parameters = updates[0].delta.size
    for update in updates:
        defect = find_defect(update.delta, num_parameters)
        if defect is not None:
            raise InvalidTensor(
                f"update of {update.header.client!r} is {defect}: got {update.delta.dtype} {update.delta.shape}, "
                f"expected finite float32 ({num_parameters},); offer updates to a RoundState, which refuses such"
            )
    return np.stack([update.delta for update in updates]).astype(np.float64)
