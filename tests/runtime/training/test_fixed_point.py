"""Fixed-point sums are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.errors import InvalidConfig, InvalidTensor
from runtime.training.fixed_point import FixedPoint


@settings(max_examples=60)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(0, 5)), elements=st.floats(-(2.0**20), 2.0**20, width=32)))
def test_sums_are_within_half_a_unit_each(vectors: np.ndarray) -> None:
    """Every summand is rounded once and clipped at the bound; the sum itself loses nothing and never wraps."""
    code = FixedPoint(max_summands=len(vectors))
    total = np.zeros(vectors.shape[1], np.uint32)
    for vector in vectors:
        total = total + code.quantise(vector)
    expected = np.clip(vectors.astype(np.float64), -code.bound(), code.bound()).sum(axis=0)
    np.testing.assert_allclose(code.restore(total), expected, atol=len(vectors) * 2.0**-17, rtol=1e-12)


def test_by_hand() -> None:
    """With 2 bits behind the point 1.5 is 6, -0.25 is 2^32 - 1, 0.3 rounds to 0.25."""
    code = FixedPoint(fraction_bits=2, max_summands=1)
    units = code.quantise(np.array([1.5, -0.25, 0.3]))
    assert units.tolist() == [6, 2**32 - 1, 1]
    assert code.restore(units).tolist() == [1.5, -0.25, 0.25]


def test_what_cannot_be_written_is_refused() -> None:
    """NaN has no integer, and there must be room for one unit per summand."""
    with pytest.raises(InvalidTensor):
        FixedPoint(max_summands=1).quantise(np.array([np.nan]))
    for bad in ({"max_summands": 0}, {"max_summands": 2**31}, {"max_summands": 1, "fraction_bits": 32}):
        with pytest.raises(InvalidConfig):
            FixedPoint(**bad)
