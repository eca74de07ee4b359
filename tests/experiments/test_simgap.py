"""Simulator against live, by hand."""

from __future__ import annotations

import pytest

from experiments.simgap import sim_to_live
from tests.experiments.test_records import make_record


def test_errors_by_hand() -> None:
    """Latencies 10 % and 20 % too slow, one 40 % too fast, one status apart; costs 50 % too high for one policy."""
    live = [
        make_record(policy="a", request_id=0, latency_s=0.1, simulated_latency_s=0.11, simulated_status="ok", cost=1.0),
        make_record(policy="a", request_id=1, latency_s=0.1, simulated_latency_s=0.12, simulated_status="ok", cost=3.0),
        make_record(policy="b", request_id=0, latency_s=0.1, simulated_latency_s=0.06, simulated_status="ok", cost=1.0),
        make_record(policy="b", request_id=1, status="deadline", latency_s=0.3, simulated_latency_s=0.2, simulated_status="ok", cost=5.0),
    ]
    simulated = [
        make_record(policy="a", request_id=0, cost=2.0),
        make_record(policy="a", request_id=1, cost=4.0),
        make_record(policy="b", request_id=0, cost=2.5),
        make_record(policy="b", request_id=7, cost=99.0),
    ]
    gap = sim_to_live(live, simulated)
    assert gap.num_compared == 3
    assert gap.status_agreement == 0.75
    assert gap.latency_median_abs_pct_error == pytest.approx(20.0)
    assert gap.latency_median_pct_error == pytest.approx(10.0)
    assert gap.latency_median_abs_pct_error_by_policy == pytest.approx({"a": 15.0, "b": 40.0})
    assert gap.cost_pct_error_by_policy == pytest.approx({"a": 50.0, "b": 150.0})
    assert gap.cost_live == {"a": 2.0, "b": 1.0}
    assert gap.cost_simulated == {"a": 3.0, "b": 2.5}
    assert gap.rank_spearman == pytest.approx(1.0)
    assert gap.same_winner is True


def test_another_winner_is_said() -> None:
    """The order is turned round."""
    live = [make_record(policy="a", cost=1.0), make_record(policy="b", cost=2.0)]
    simulated = [make_record(policy="a", cost=4.0), make_record(policy="b", cost=3.0)]
    gap = sim_to_live(live, simulated)
    assert gap.rank_kendall == -1.0
    assert gap.same_winner is False


def test_nothing_to_compare_is_none() -> None:
    """No replay and no simulated run: no figure, instead of 0."""
    gap = sim_to_live([make_record()], [])
    assert gap.latency_median_abs_pct_error is None
    assert gap.status_agreement is None
    assert gap.num_compared == 0
    assert gap.cost_pct_error_by_policy == {}
    assert gap.rank_spearman is None
    assert gap.same_winner is None
