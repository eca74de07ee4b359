"""Intervals that hold what they say, and rank agreement by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments import stats
from experiments.stats import (
    kendall,
    mean_interval,
    paired_difference,
    paired_saving,
    paired_series,
    saving_interval,
    seeds_interval,
    spearman,
)
from runtime.errors import InvalidInput


def test_the_mean_is_the_mean() -> None:
    """Of all requests, whatever seed they belong to: (1+2+3 + 10) / 4 = 4."""
    estimate = mean_interval([np.array([1.0, 2.0, 3.0]), np.array([10.0])])
    assert estimate.mean == 4.0
    assert estimate.low < 4.0 < estimate.high


def test_a_constant_has_no_interval() -> None:
    """No spread, no doubt, up to rounding."""
    estimate = mean_interval([np.full(60, 0.1)] * 3)
    assert (estimate.low, estimate.high) == pytest.approx((0.1, 0.1), abs=1e-12)


def test_the_same_data_gives_the_same_interval() -> None:
    """Figures can be computed again."""
    series = [np.random.default_rng(seed).random(80) for seed in range(3)]
    assert mean_interval(series) == mean_interval(series)


@pytest.mark.parametrize("series", [[], [np.array([])], [np.array([1.0, math.nan])], [np.array([math.inf])]])
def test_nothing_or_nonsense_is_refused(series: list[np.ndarray]) -> None:
    """An interval of nothing is not 0."""
    with pytest.raises(InvalidInput):
        mean_interval(series)


def test_an_interval_of_costs_stays_above_zero() -> None:
    """Two seeds, nearly all of the cost in one of them: the interval is wide, but there are no negative costs."""
    estimate = mean_interval([np.full(100, 0.1), np.where(np.arange(100) < 50, 0.1, 5.0)])
    assert 0 < estimate.low < 0.2
    assert estimate.high > 2.5


def test_an_interval_over_seeds_is_students() -> None:
    """2, 4, 6: mean 4, deviation 2, and t = 4.303 for two degrees of freedom."""
    interval = seeds_interval([2.0, 4.0, 6.0])
    assert interval.mean == 4.0
    assert interval.high - 4.0 == pytest.approx(4.303 * 2.0 / math.sqrt(3), rel=0.02)
    assert 4.0 - interval.low == pytest.approx(interval.high - 4.0)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_one_seed_is_no_interval(values: list[float]) -> None:
    """Nor are figures that are not finite."""
    with pytest.raises(InvalidInput, match="at least two seeds"):
        seeds_interval(values)


def test_a_single_value_is_allowed() -> None:
    """One request says what it cost, and nothing of the spread."""
    estimate = mean_interval([np.array([2.5])])
    assert (estimate.low, estimate.mean, estimate.high) == (2.5, 2.5, 2.5)


def test_block_resamples_sum_consecutive_values() -> None:
    """Of 8 values in blocks of 2, each resample is a sum of four neighbours' pairs, on a circle."""
    values = 10.0 ** np.arange(8)
    pairs = {values[index] + values[(index + 1) % 8] for index in range(8)}
    sums = stats._resampled_sums(values[:, None], np.random.default_rng(0), 50)[:, 0]
    assert len(sums) == 50
    for total in sums:
        digits = [int(digit) for digit in f"{total:.0f}"[::-1].ljust(8, "0")]
        assert sum(digits) == 8
        assert total >= min(pairs)


def test_a_resample_is_as_long_as_its_series() -> None:
    """Also where blocks do not divide it: the sum of ones counts them."""
    for num in (1, 3, 4, 26, 99, 101):
        assert set(stats._resampled_sums(np.ones((num, 1)), np.random.default_rng(0), 20)[:, 0]) == {float(num)}


def test_the_stretch_by_hand() -> None:
    """Three seeds of 100: 12 blocks of 25, 9 degrees of freedom, t = 2.262 (tables), a quarter unseen."""
    assert stats._stretch([np.zeros(100)] * 3) == pytest.approx(2.262 / 1.960 / math.sqrt(0.75), rel=2e-3)


def ar1(rng: np.random.Generator, num: int, memory: float) -> np.ndarray:
    """exp(0.7 * x) of an autoregressive x of unit variance: skewed like costs; its mean is exp(0.245)."""
    noise = rng.standard_normal(num) * math.sqrt(1 - memory**2)
    level, values = rng.standard_normal(), np.empty(num)
    for index in range(num):
        level = memory * level + noise[index]
        values[index] = level
    return np.exp(0.7 * values)


@pytest.mark.parametrize(("memory", "at_least", "at_most"), [(0.0, 0.93, 1.0), (0.8, 0.91, 1.0), (0.93, 0.87, 0.99)])
def test_intervals_hold_the_mean_as_often_as_they_say(memory: float, at_least: float, at_most: float) -> None:
    """Nominal 95 %, three seeds of 200 dependent values, 200 experiments (deviation of the share: 0.015 at 0.95)."""
    rng = np.random.default_rng(1)
    truth, held = math.exp(0.245), 0
    for _ in range(200):
        estimate = mean_interval([ar1(rng, 200, memory) for _ in range(3)], num_resamples=400)
        held += estimate.low <= truth <= estimate.high
    assert at_least <= held / 200 <= at_most


def test_independent_requests_would_be_far_too_sure() -> None:
    """What the blocks and seeds are for: on dependent values the interval is much longer than the naive one."""
    rng = np.random.default_rng(2)
    ratios = []
    for _ in range(20):
        series = [ar1(rng, 200, 0.93) for _ in range(3)]
        estimate = mean_interval(series, num_resamples=400)
        ratios.append((estimate.high - estimate.low) / (2 * 1.96 * np.concatenate(series).std() / math.sqrt(600)))
    assert np.median(ratios) > 2


def test_pairing_keeps_shared_requests_in_order() -> None:
    """By (seed, request), one array per seed; what only one side has is left out."""
    left = {(1, 0): 5.0, (1, 1): 7.0, (2, 3): 1.0, (2, 4): 9.0}
    right = {(2, 3): 4.0, (1, 1): 1.0, (1, 0): 2.0, (3, 0): 0.0}
    assert [values.tolist() for values in paired_series(left, right)] == [[[5.0, 2.0], [7.0, 1.0]], [[1.0, 4.0]]]
    assert paired_difference({(1, 0): 5.0}, {(2, 0): 1.0}) is None
    assert paired_saving({(1, 0): 5.0}, {(2, 0): 1.0}) is None


def test_pairing_shortens_the_interval() -> None:
    """What both policies share (here nearly all) does not blur their difference."""
    rng = np.random.default_rng(3)
    shared = [ar1(rng, 200, 0.9) for _ in range(3)]
    left = {(seed, index): value + 0.1 for seed, values in enumerate(shared) for index, value in enumerate(values)}
    right = {(seed, index): float(value) for seed, values in enumerate(shared) for index, value in enumerate(values)}
    difference = paired_difference(left, right)
    assert difference is not None
    assert (difference.low, difference.mean, difference.high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_saving_is_a_share() -> None:
    """A quarter on every request is a quarter for certain; where it varies the interval stays below 1."""
    rng = np.random.default_rng(4)
    dearer = [ar1(rng, 100, 0.9) for _ in range(3)]
    always = saving_interval([0.75 * values for values in dearer], dearer)
    assert always is not None
    assert (always.low, always.mean, always.high) == pytest.approx((0.25, 0.25, 0.25))
    rare = [np.where(rng.random(100) < 0.05, 40.0, 0.02) for _ in range(3)]
    mostly = saving_interval([np.full(100, 0.02)] * 3, rare)
    assert mostly is not None
    assert mostly.low < mostly.mean < mostly.high < 1
    assert saving_interval([np.zeros(5)], [np.ones(5)]) is None


RANKS = (
    # left, right, Spearman, Kendall's tau-b
    ([1, 2, 3, 4], [10, 20, 30, 40], 1.0, 1.0),
    ([1, 2, 3, 4], [4, 3, 2, 1], -1.0, -1.0),
    ([1, 2, 3, 4], [1, 3, 2, 4], 0.8, 4 / 6),
    # Ranks 1.5 1.5 3 4 against 1 2 3 4: 4.5 / sqrt(4.5 * 5); one tied pair of six: 5 / sqrt(5 * 6).
    ([1, 1, 2, 3], [1, 2, 3, 4], 4.5 / math.sqrt(22.5), 5 / math.sqrt(30)),
)


@pytest.mark.parametrize(("left", "right", "rho", "tau"), RANKS)
def test_rank_agreement_by_hand(left: list[float], right: list[float], rho: float, tau: float) -> None:
    """Four policies, with and without a tie."""
    assert spearman(left, right) == pytest.approx(rho)
    assert kendall(left, right) == pytest.approx(tau)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0]])
def test_no_order_no_agreement(values: list[float]) -> None:
    """One policy, or all the same: nothing to agree on."""
    assert spearman(values, values) is None
    assert kendall(values, values) is None
