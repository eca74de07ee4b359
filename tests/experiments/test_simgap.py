"""Simulator against live, by hand."""

from __future__ import annotations

import pytest

from experiments.simgap import sim_to_live, simulated_too
from runtime.messages import Breakdown, Outcome, Reused, Tier
from tests.experiments.test_records import make_record


@pytest.mark.parametrize(
    ("reused", "tier", "known"),
    [
        ("no", None, True),
        ("cache-exact", "device", True),
        ("cache-exact", "edge", False),
        ("cache-similar", "device", False),
        ("filter-unchanged", "device", False),
        ("filter-irrelevant", "device", False),
    ],
)
def test_only_what_the_simulator_knows_is_compared(reused: Reused, tier: Tier | None, known: bool) -> None:
    """Computing, and the device's cache of equal inputs."""
    assert simulated_too(Outcome(request_id=0, status="ok", reused=reused, reused_at=tier)) is known


@pytest.mark.parametrize("breakdown", [Breakdown(), Breakdown(handover_s=0.01)])
def test_what_was_handed_over_is_not_compared(breakdown: Breakdown) -> None:
    """The simulator has one edge; a hand-over in vain cost time there is none of in it, either."""
    outcome = Outcome(request_id=0, status="ok", handed_over=not breakdown.handover_s, breakdown=breakdown)
    assert not simulated_too(outcome)


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
