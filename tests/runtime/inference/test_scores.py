"""Scores by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.inference.scores import brier, roc_auc


def test_brier_by_hand() -> None:
    """(0.1^2 + 0.4^2) / 2."""
    assert brier(np.array([0.9, 0.4]), np.array([1, 0])) == pytest.approx(0.085)


def test_auc_by_hand() -> None:
    """Positives 3 and 2 against negatives 1 and 2: three and a half of four pairs."""
    assert roc_auc(np.array([3.0, 2.0, 1.0, 2.0]), np.array([1, 1, 0, 0])) == 0.875


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=25))
def test_auc_counts_pairs(samples: list[tuple[int, bool]]) -> None:
    """Against looking at every pair."""
    positive, negative = [s for s, label in samples if label], [s for s, label in samples if not label]
    auc = roc_auc(np.array([s for s, _ in samples]), np.array([label for _, label in samples]))
    if not positive or not negative:
        assert auc is None
    else:
        wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
        assert auc == pytest.approx(wins / len(positive) / len(negative))
