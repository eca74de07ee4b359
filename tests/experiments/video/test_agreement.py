"""Agreement by hand, and what a stream repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.video.agreement import f1, hold_last

EMPTY = np.zeros((2, 2), dtype=bool)
CORNER = np.array([[1, 0], [0, 0]], dtype=bool)
ROW = np.array([[1, 1], [0, 0]], dtype=bool)


@pytest.mark.parametrize(
    ("reference", "reported", "expected"),
    [
        ([CORNER], [CORNER], 1.0),
        ([EMPTY], [EMPTY], 1.0),
        ([CORNER], [EMPTY], 0.0),
        ([ROW], [CORNER], 2 / 3),  # one right, none wrong, one missed: 2 / (2 + 0 + 1)
        ([ROW, EMPTY], [CORNER, CORNER], 2 / 4),  # pooled: one right, one wrong, one missed
    ],
)
def test_f1_by_hand(reference: list[np.ndarray], reported: list[np.ndarray], expected: float) -> None:
    """2 TP / (2 TP + FP + FN) over all cells of all frames."""
    assert f1(np.stack(reference), np.stack(reported)) == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1))
def test_f1_is_symmetric_and_a_share(seed: int) -> None:
    """Whichever is called the reference."""
    one, other = np.random.default_rng(seed).random((2, 3, 4)) < 0.3
    assert f1(one, other) == f1(other, one)
    assert 0.0 <= f1(one, other) <= 1.0


def test_skipped_frames_repeat_the_last_answer() -> None:
    """And before there was one, what the stream began with."""
    report = hold_last([None, CORNER, None, None, ROW], EMPTY)
    assert [frame.tolist() for frame in report] == [frame.tolist() for frame in (EMPTY, CORNER, CORNER, CORNER, ROW)]
