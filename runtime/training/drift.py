"""How far clients came apart in a round: the share of their updates that the mean does not have.

    drift = 1 - |sum_i p_i u_i|^2 / sum_i p_i |u_i|^2        0: all moved alike; near 1: their updates cancel out

p_i are the shares of the examples.  It takes nothing but the updates that are there anyway.
Source: the measure of client drift: Karimireddy et al., "SCAFFOLD", ICML 2020, section 3, normalised; ours in this form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from runtime.training.update import Update


def measure_drift(updates: Sequence[Update]) -> float | None:
    """In 0..1; None for fewer than two updates, and where nobody moved or a number is not finite."""
    if len(updates) < 2:
        return None
    shares = np.array([update.header.num_examples for update in updates], np.float64)
    shares /= shares.sum()
    mean = np.zeros(updates[0].delta.size)
    for share, update in zip(shares.tolist(), updates, strict=True):
        mean += share * update.delta
    whole = float(shares @ [_square(update.delta) for update in updates])
    if not 0.0 < whole < math.inf:
        return None
    return min(1.0, max(0.0, 1.0 - _square(mean) / whole))


def _square(vector: np.ndarray) -> float:
    wide = vector.astype(np.float64)
    return float(wide @ wide)
