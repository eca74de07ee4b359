"""How large a rate may be, given how often it was seen.  Numpy only."""

from __future__ import annotations

import math

import numpy as np

from runtime.errors import InvalidInput

_HALVINGS = 60
"""Bisection steps: the bound is exact to 2**-60, far below what a count can tell."""


def binomial_upper(num_hits: int, num_trials: int, confidence: float = 0.95) -> float:
    """The one-sided upper confidence bound of a rate that showed `num_hits` times in `num_trials` independent trials.

    It is the largest p with P(Binomial(num_trials, p) <= num_hits) >= 1 - confidence; 1 when nothing was tried.
    Raises InvalidInput for counts that are not 0 <= hits <= trials or a confidence outside (0, 1).
    Source: Clopper & Pearson, Biometrika 1934, one side.
    """
    if not 0 <= num_hits <= num_trials:
        raise InvalidInput(f"a rate needs 0 <= hits <= trials, got {num_hits} of {num_trials}")
    if not 0.0 < confidence < 1.0:
        raise InvalidInput(f"confidence must lie in (0, 1), got {confidence!r}")
    if num_hits == num_trials:
        return 1.0
    log_choose = _log_choose(num_trials, num_hits)
    low, high = num_hits / num_trials, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _cumulative(log_choose, num_trials, middle) >= 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def _log_choose(num_trials: int, num_hits: int) -> np.ndarray:
    """log C(n, k) for k = 0..num_hits: float64 [num_hits + 1]."""
    whole = math.lgamma(num_trials + 1)
    return np.array([whole - math.lgamma(k + 1) - math.lgamma(num_trials - k + 1) for k in range(num_hits + 1)])


def _cumulative(log_choose: np.ndarray, num_trials: int, rate: float) -> float:
    """P(Binomial(n, rate) <= k), where log_choose covers 0..k < n."""
    if rate <= 0.0:
        return 1.0
    if rate >= 1.0:
        return 0.0
    hits = np.arange(len(log_choose))
    return float(np.exp(log_choose + hits * math.log(rate) + (num_trials - hits) * math.log1p(-rate)).sum())
