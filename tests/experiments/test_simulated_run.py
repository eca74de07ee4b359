"""A whole run on the simulator: every heuristic plays, and the simulator agrees with itself."""

from __future__ import annotations

import msgspec
import pytest

from agents.heuristics import HEURISTICS
from envs.catalogue import build_catalogue
from envs.costs import build_cost_model
from envs.scenario import EvaluationConfig
from envs.simulated import SimulatedSystem
from experiments.annotate import Knowledge, latency_forecast
from experiments.comparison import Contest, compare
from experiments.evaluate import held_out
from experiments.placement import PLACEMENTS
from experiments.records import Record, read_records
from experiments.runs import create_run
from experiments.summary import Summary
from tests.envs.profiles import EXIT_ENDS, NUM_EXAMPLES, make_profile, make_scenario

SEEDS = (1001, 1002)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, list[Record]]:
    """All heuristics on the congested scenario, the simulator standing for the live system, too."""
    shipped = make_scenario()
    scenario = held_out(msgspec.structs.replace(shipped, evaluation=EvaluationConfig(seeds=SEEDS, num_requests=60)))
    profile = make_profile(scenario)
    every = build_cost_model(profile, scenario)
    catalogue = every.restrict(build_catalogue(every, samples=500).decisions)
    policies = {name: make(every, catalogue) for name, make in HEURISTICS.items()}
    contest = Contest(
        scenario=scenario,
        players=policies,
        make_system=lambda: SimulatedSystem(scenario, profile, split="test"),
        simulated_players=policies,
        make_simulator=lambda: SimulatedSystem(scenario, profile, split="test"),
        knowledge=Knowledge(
            exit_ends=EXIT_ENDS,
            num_examples=NUM_EXAMPLES,
            forecast=latency_forecast(every),
            replayer=SimulatedSystem(scenario, profile, split="test"),
        ),
    )
    folder = create_run(tmp_path_factory.mktemp("runs"), scenario, command=["x"], seeds=SEEDS, learned="greedy")
    return compare(contest, folder), read_records(folder.records)


def test_the_simulator_agrees_with_itself(played: tuple[Summary, list[Record]]) -> None:
    """Its own decisions, replayed, give its own outcomes to the last digit; every policy costs the same again."""
    gap = played[0].sim_to_live
    assert gap is not None
    assert gap.latency_median_abs_pct_error == pytest.approx(0.0, abs=1e-9)
    assert gap.status_agreement == 1.0
    assert gap.cost_pct_error_by_policy == pytest.approx(dict.fromkeys(HEURISTICS, 0.0), abs=1e-9)
    assert gap.rank_spearman == pytest.approx(1.0)
    assert gap.same_winner is True


def test_every_heuristic_plays_every_request(played: tuple[Summary, list[Record]]) -> None:
    """Seven policies, two seeds, sixty requests each; all decided, placed and predicted."""
    summary, records = played
    assert summary.failures == ()
    assert {name: policy.requests for name, policy in summary.policies.items()} == dict.fromkeys(HEURISTICS, 120)
    decided = [record for record in records if record.decision is not None]
    assert len(decided) > 0.9 * len(records)
    assert {record.placement for record in decided} <= set(PLACEMENTS)
    assert all(record.predicted_latency_s is not None and record.example is not None for record in decided)


def test_static_heuristics_are_where_they_say(played: tuple[Summary, list[Record]]) -> None:
    """device-only, edge-only and cloud-only each use one tier."""
    for tier in ("device", "edge", "cloud"):
        shares = played[0].policies[f"{tier}-only"].decisions
        assert [(share.placement, share.fraction) for share in shares] == [(tier, 1.0)]


def test_latency_parts_tile_the_latency(played: tuple[Summary, list[Record]]) -> None:
    """In every answered request, and so in the means that reports show."""
    for record in played[1]:
        if not record.failed:
            assert record.breakdown.total_s() == pytest.approx(record.latency_s, abs=1e-6)
