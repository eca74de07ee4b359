"""The bound of a rate."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.inference.bounds import binomial_upper


@pytest.mark.parametrize("num_trials", [1, 10, 59, 10_000])
def test_without_a_hit_it_has_a_closed_form(num_trials: int) -> None:
    """(1 - p) ** n = 0.05, by hand."""
    assert binomial_upper(0, num_trials) == pytest.approx(1 - 0.05 ** (1 / num_trials), rel=1e-9)


def test_one_hit_of_ten_is_the_textbook_value() -> None:
    """0.44502 bounds 1 of 10 at 97.5 %, as printed in tables of the Clopper-Pearson interval."""
    assert binomial_upper(1, 10, 0.975) == pytest.approx(0.44502, abs=1e-5)


def test_what_was_never_tried_or_always_hit_is_not_bounded() -> None:
    """Nothing is known, or everything hit: 1."""
    assert binomial_upper(0, 0) == 1.0
    assert binomial_upper(7, 7) == 1.0


@given(st.integers(1, 60), st.data())
def test_it_inverts_the_binomial_distribution(num_trials: int, data: st.DataObject) -> None:
    """At the bound, so few hits or fewer have probability 1 - confidence, summed with exact integers."""
    num_hits = data.draw(st.integers(0, num_trials - 1))
    confidence = data.draw(st.floats(0.5, 0.999))
    rate = binomial_upper(num_hits, num_trials, confidence)
    tail = sum(math.comb(num_trials, k) * rate**k * (1 - rate) ** (num_trials - k) for k in range(num_hits + 1))
    assert tail == pytest.approx(1 - confidence, rel=1e-6)


@pytest.mark.parametrize(("hits", "trials", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (1, 5, 0.0), (1, 5, 1.0)])
def test_impossible_counts_are_refused(hits: int, trials: int, confidence: float) -> None:
    """No bound is made up for them."""
    with pytest.raises(InvalidInput):
        binomial_upper(hits, trials, confidence)
