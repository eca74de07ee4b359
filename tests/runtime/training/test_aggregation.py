"""Each aggregator against a plain reference, and by hand."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from runtime.errors import InvalidConfig, InvalidInput
from runtime.training.aggregation import AGGREGATORS
from runtime.training.aggregation.coordinatewise import TrimmedMean
from runtime.training.aggregation.krum import Krum
from runtime.training.aggregation.means import NormClipped
from runtime.training.aggregation.server_optimiser import Adam, Momentum
from runtime.training.proximal import proximal_gradient
from tests.runtime.training.updates import updates_of

DELTAS = np.random.default_rng(7).normal(size=(9, 4)).astype(np.float32)
COUNTS = [3, 1, 4, 1, 5, 9, 2, 6, 5]


def test_fedavg_is_the_sum_of_products() -> None:
    """sum n_k d_k / n, one coordinate at a time."""
    total = sum(COUNTS)
    expected = [sum(n * float(row[j]) for n, row in zip(COUNTS, DELTAS, strict=True)) / total for j in range(4)]
    moved, _ = AGGREGATORS["fedavg"].aggregate(np.zeros(4, np.float32), updates_of(DELTAS, COUNTS), AGGREGATORS["fedavg"].start(4))
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_averaging_deltas_is_averaging_weights() -> None:
    """w + mean(w_k - w) = mean(w_k): the sum that McMahan's Algorithm 1 writes."""
    start = np.linspace(-1, 1, 4, dtype=np.float32)
    moved, _ = AGGREGATORS["fedavg"].aggregate(start, updates_of(DELTAS, COUNTS), AGGREGATORS["fedavg"].start(4))
    np.testing.assert_allclose(moved, np.average(start + DELTAS, axis=0, weights=COUNTS), rtol=1e-5, atol=1e-6)


def test_median_is_that_of_the_standard_library() -> None:
    """Odd and even numbers of clients."""
    for rows in (DELTAS, DELTAS[:8]):
        expected = [statistics.median(map(float, rows[:, j])) for j in range(4)]
        np.testing.assert_allclose(AGGREGATORS["median"].rule.combine(updates_of(rows)), expected, rtol=1e-6)


def test_trimmed_mean_drops_extremes_of_each_coordinate() -> None:
    """By hand: of 1 2 3 4 100 the ends go, 3 stays; nothing goes at fraction 0."""
    rows = np.array([[1, 40], [2, 30], [100, 20], [3, 10], [4, -900]], np.float32)
    np.testing.assert_allclose(TrimmedMean(trim_fraction=0.2).combine(updates_of(rows)), [3.0, 20.0])
    np.testing.assert_allclose(TrimmedMean(trim_fraction=0.0).combine(updates_of(rows)), [22.0, -160.0])
    assert [TrimmedMean(trim_fraction=0.1).num_trimmed(n) for n in (9, 10, 29, 30)] == [0, 1, 2, 3]


def plain_krum_scores(rows: np.ndarray, num_attackers: int) -> list[float]:
    """Blanchard's score, written out."""
    scores = []
    for i in range(len(rows)):
        distances = sorted(
            sum((float(a) - float(b)) ** 2 for a, b in zip(rows[i], rows[j], strict=True)) for j in range(len(rows)) if j != i
        )
        scores.append(sum(distances[: len(rows) - num_attackers - 2]))
    return scores


@pytest.mark.parametrize("num_attackers", [0, 1, 2, 3])
def test_krum_selects_by_the_written_out_score(num_attackers: int) -> None:
    """Krum takes the best score's update, multi-Krum the mean of the m best."""
    order = np.argsort(plain_krum_scores(DELTAS, num_attackers), kind="stable")
    np.testing.assert_array_equal(Krum(num_attackers=num_attackers).combine(updates_of(DELTAS)), DELTAS[order[0]])
    for num_selected in (2, 4):
        rule = Krum(num_attackers=num_attackers, num_selected=num_selected)
        np.testing.assert_allclose(rule.combine(updates_of(DELTAS)), DELTAS[order[:num_selected]].mean(axis=0), rtol=1e-5)


def test_krum_never_selects_two_colluding_outliers() -> None:
    """Two equal lies are at distance 0 of each other, yet their third neighbour is far: 7 >= 2f + 3 with f = 2."""
    rows = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [50.0], [50.0]], np.float32)
    assert Krum(num_attackers=2).combine(updates_of(rows)) < 1.0
    assert {update.header.client for update in Krum(num_selected=None).select(updates_of(rows))}.isdisjoint({"client-005", "client-006"})


def test_krum_refuses_a_round_that_is_too_small_for_its_promise() -> None:
    """K < 2f + 3 tolerates fewer than f."""
    with pytest.raises(InvalidInput, match="needs 7 updates to tolerate 2 attackers, got 6"):
        Krum(num_attackers=2).combine(updates_of(DELTAS[:6]))


def test_norm_clipping_by_hand() -> None:
    """(3, 4) has norm 5, clipped to 1 it is (0.6, 0.8); shorter ones stay; the median norm is the default bound."""
    rows = np.array([[3.0, 4.0], [0.0, 0.5], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(NormClipped(max_norm=1.0).combine(updates_of(rows)), [0.2, 1.3 / 3], rtol=1e-6)
    np.testing.assert_allclose(NormClipped().combine(updates_of(rows)), [0.1, 0.9 / 3], rtol=1e-6)


def test_server_momentum_by_hand() -> None:
    """d = 1, 1, 1 with b = 0.5 moves 1, 1.5, 1.75."""
    optimiser, weights = Momentum(decay=0.5), np.zeros(1, np.float32)
    state, seen = optimiser.start(1), []
    for _ in range(3):
        weights, state = optimiser.apply(weights, np.ones(1, np.float32), state)
        seen.append(float(weights[0]))
    assert seen == pytest.approx(list(itertools.accumulate([1.0, 1.5, 1.75])))


def test_momentum_without_decay_is_fedavg() -> None:
    """b = 0 leaves the plain step."""
    combined = AGGREGATORS["fedavg"].rule.combine(updates_of(DELTAS, COUNTS))
    moved, _ = Momentum(decay=0.0).apply(np.ones(4, np.float32), combined, Momentum(decay=0.0).start(4))
    np.testing.assert_allclose(moved, 1.0 + combined, rtol=1e-6)


def test_server_adam_is_the_written_out_algorithm() -> None:
    """Reddi's Algorithm 2 on one coordinate in plain floats, over five rounds."""
    optimiser = Adam(learning_rate=0.1, first_decay=0.9, second_decay=0.99, adaptivity=0.01)
    weights, state = np.array([2.0], np.float32), optimiser.start(1)
    w, m, v = 2.0, 0.0, 0.0001
    for step in (1.0, -0.5, 0.25, 0.0, 3.0):
        weights, state = optimiser.apply(weights, np.array([step], np.float32), state)
        m, v = 0.9 * m + 0.1 * step, 0.99 * v + 0.01 * step**2
        w += 0.1 * m / (v**0.5 + 0.01)
        assert float(weights[0]) == pytest.approx(w, rel=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Momentum(decay=1.0),
        lambda: Adam(adaptivity=0.0),
        lambda: Adam(learning_rate=float("nan")),
        lambda: TrimmedMean(trim_fraction=0.5),
        lambda: Krum(num_attackers=-1),
        lambda: Krum(num_selected=0),
        lambda: NormClipped(max_norm=0.0),
    ],
)
def test_settings_out_of_range_are_refused(make: object) -> None:
    """A setting that the paper rules out cannot be built."""
    with pytest.raises(InvalidConfig):
        make()  # type: ignore[operator]


def test_the_proximal_gradient_is_that_of_half_the_squared_distance() -> None:
    """Central differences of mu/2 |w - w0|^2 agree."""
    local, start, mu, step = np.array([1.0, -2.0, 0.5], np.float32), np.array([0.5, 0.0, 0.5], np.float32), 0.3, 1e-3

    def penalty(at: np.ndarray) -> float:
        return mu / 2 * float(np.square(at - start.astype(np.float64)).sum())

    slopes = [(penalty(local + step * unit) - penalty(local - step * unit)) / (2 * step) for unit in np.eye(3)]
    np.testing.assert_allclose(proximal_gradient(local, start, mu), slopes, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(proximal_gradient(local, start, 0.0), 0.0)
