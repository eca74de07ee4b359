"""Rounding to half precision, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.codecs.half import to_half


@pytest.mark.parametrize(
    ("value", "due"),
    [
        (1.0, 1.0),
        (1.0 + 2.0**-11, 1.0),
        (1.0 + 3 * 2.0**-11, 1.0 + 2.0**-9),
        (65504.0, 65504.0),
        (65520.0, 65504.0),
        (-1e30, -65504.0),
        (np.inf, np.inf),
        (-np.inf, -np.inf),
        (2.0**-24, 2.0**-24),
        (2.0**-26, 0.0),
    ],
)
def test_values_round_to_even_and_saturate(value: float, due: float) -> None:
    """Ties go to even; finite values stay finite; infinities stay; below the subnormals there is 0."""
    assert to_half(np.array([value], np.float32)).tolist() == [due]


def test_nan_stays_nan_beside_what_saturates() -> None:
    """Saturation mends overflow only."""
    half = to_half(np.array([np.nan, 1e30, np.inf], np.float32))
    np.testing.assert_array_equal(half, [np.nan, 65504.0, np.inf])
