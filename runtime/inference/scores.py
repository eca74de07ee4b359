"""How good predicted probabilities are."""

from __future__ import annotations

import numpy as np


def brier(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean squared difference to the 0/1 targets; less is better.  Source: Brier, Monthly Weather Review 1950."""
    return float(((probabilities - targets) ** 2).mean())


def roc_auc(scores: np.ndarray, targets: np.ndarray) -> float | None:
    """Chance that a positive scores above a negative, ties counting half; None unless both were seen.

    Source: the Mann-Whitney statistic, Hanley & McNeil, Radiology 1982.
    """
    positive = targets.astype(bool)
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))
