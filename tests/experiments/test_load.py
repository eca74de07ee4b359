"""The comparison along the load."""

from __future__ import annotations

import pytest

from experiments.load import compare_by_load
from tests.experiments.test_records import make_record


def test_thirds_by_recent_arrivals() -> None:
    """Thirty lonely requests, then thirty at once: the learned policy wins only where it is crowded."""
    arrival_s = [2.0 * index for index in range(30)] + [100 + 0.01 * index for index in range(30)]
    heuristic = [make_record(request_id=index, arrival_s=at_s, cost=1.0) for index, at_s in enumerate(arrival_s)]
    learned = [make_record(request_id=index, arrival_s=at_s, cost=1.5 if at_s < 100 else 0.2) for index, at_s in enumerate(arrival_s)]
    rows = compare_by_load(learned, heuristic)
    assert [row.load for row in rows] == ["light", "medium", "heavy"]
    assert sum(row.requests for row in rows) == 60
    assert rows[0].arrivals_low_per_s == 0
    assert rows[-1].arrivals_high_per_s == 29
    assert rows[0].difference.mean < 0 < rows[-1].difference.low
    assert (rows[-1].learned_cost, rows[-1].heuristic_cost) == pytest.approx((0.2, 1.0))


def test_constant_load_has_no_rows() -> None:
    """Nothing to split."""
    records = [make_record(request_id=index, arrival_s=2.0 * index) for index in range(10)]
    assert compare_by_load(records, records) == ()


def test_seeds_do_not_crowd_each_other() -> None:
    """Two episodes' arrivals at the same times are two loads, not one twice as heavy."""
    records = [make_record(seed=seed, request_id=index, arrival_s=0.1 * index) for seed in (1, 2) for index in range(20)]
    assert max(row.arrivals_high_per_s for row in compare_by_load(records, records)) == 10
