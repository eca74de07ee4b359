"""How far updates lie apart, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.training.drift import measure_drift
from runtime.training.update import Update, UpdateHeader


def update(*delta: float, num_examples: int = 1) -> Update:
    return Update(header=UpdateHeader(client="c", round=0, num_examples=num_examples), delta=np.array(delta, np.float32))


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        ((update(1, 2), update(1, 2)), 0.0),
        ((update(1, 0), update(-1, 0)), 1.0),
        ((update(1, 0), update(0, 1)), 0.5),
        ((update(1, 0, num_examples=3), update(-1, 0)), 0.75),  # the mean is a half, of which the square is a quarter
    ],
)
def test_drift_is_what_the_mean_does_not_have(updates: tuple[Update, ...], expected: float) -> None:
    """Nothing where all agree, all of it where they cancel out; examples weigh."""
    assert measure_drift(updates) == pytest.approx(expected, abs=1e-9)


def test_of_one_or_of_none_that_moved_nothing_is_known() -> None:
    """Nor of what is not finite."""
    assert measure_drift([update(1, 2)]) is None
    assert measure_drift([update(0, 0), update(0, 0)]) is None
    assert measure_drift([update(np.inf, 0), update(0, 0)]) is None
