"""Techniques off and on: which decisions are held against each other, and the figures by hand."""

from __future__ import annotations

import msgspec
import pytest

from envs.costs import CostModel, build_cost_model
from envs.not_modelled import by_events
from experiments.evaluate import EpisodeFailure
from experiments.technique_effects import change_of, effects, lost_notice, setting_of, waited_of
from experiments.technique_table import HEADER, effect_grid, legend
from experiments.techniques import Technique, all_techniques, decision_techniques, node_techniques, sharing_techniques
from runtime.errors import InvalidInput
from runtime.messages import TIERS, Breakdown
from tests.envs.profiles import TECHNIQUES, make_fixed_scenario, make_profile, make_rich_profile
from tests.experiments.test_records import make_record


@pytest.fixture(scope="module")
def cost_model() -> CostModel:
    scenario = msgspec.structs.replace(make_fixed_scenario(), techniques=TECHNIQUES)
    return build_cost_model(make_rich_profile(scenario), scenario)


def test_each_technique_differs_by_itself_alone(cost_model: CostModel) -> None:
    """Off and on are legal decisions; a codec, a variant or early exit is the only field that changes."""
    shown = {technique.name: technique for technique in decision_techniques(make_fixed_scenario(), cost_model)}
    assert set(shown) == {"partition", "early exit", "confidence exits", "variant int8", "codec int8+zstd", "codec identity+lz4"}
    for technique in shown.values():
        assert {technique.off.decision, technique.on.decision} <= set(cost_model.decisions)
        assert technique.off.scenario == technique.on.scenario
    for name, field in (("confidence exits", "early_exit"), ("variant int8", "variant"), ("codec int8+zstd", "codec")):
        off, on = (msgspec.structs.asdict(trial.decision) for trial in (shown[name].off, shown[name].on))
        assert {key for key in off if off[key] != on[key]} == {field}


def test_a_node_s_technique_changes_one_tier_alone(cost_model: CostModel) -> None:
    """Both settings decide alike and play the same inputs, which give the technique something to do."""
    for technique in node_techniques(make_fixed_scenario(), cost_model):
        off, on = technique.off.scenario, technique.on.scenario
        assert technique.off.decision == technique.on.decision
        assert off.workload == on.workload != make_fixed_scenario().workload
        changed = [tier for tier in TIERS if off.topology.tier(tier) != on.topology.tier(tier)]
        assert len(changed) == 1
        assert off.topology.without_reuse() == on.topology.without_reuse() == off.topology
    assert len({technique.name for technique in all_techniques(make_fixed_scenario(), cost_model)}) == 13


def test_what_a_model_cannot_do_is_not_shown() -> None:
    """Without codecs and calibrated confidence there is no row for them."""
    names = {
        technique.name for technique in decision_techniques(make_fixed_scenario(), build_cost_model(make_profile(), make_fixed_scenario()))
    }
    assert names == {"partition", "early exit", "variant int8"}


def test_figures_by_hand() -> None:
    """Medians, means and shares over two answered requests and one that failed."""
    there = Breakdown(compute_s=(0.01, 0.02, 0.0))
    records = [
        make_record(
            request_id=0, latency_s=0.1, correct=True, energy_joules=0.3, link_bytes=(100, 10), leakage=0.5,
            breakdown=there, memory_bytes=(5, 7, 100), simulated_latency_s=0.11, simulated_status="ok",
        ),
        make_record(
            request_id=1, latency_s=0.2, correct=False, energy_joules=0.1, link_bytes=(0, 0), leakage=0.0,
            breakdown=Breakdown(compute_s=(0.01, 0.0, 0.0)), memory_bytes=(6, 7, 100), simulated_latency_s=0.14, simulated_status="ok",
        ),
        make_record(
            request_id=2, latency_s=0.3, status="deadline", correct=None, energy_joules=0.2, link_bytes=(50, 0), leakage=0.1,
            breakdown=Breakdown(), memory_bytes=(5, 7, 100),
        ),
    ]  # fmt: skip
    setting = setting_of("x", records)
    assert (setting.requests, setting.failed) == (3, 1)
    assert setting.latency_p50_s == 0.2
    assert setting.accuracy == 0.5
    assert setting.energy_joules_mean == pytest.approx(0.2)
    assert (setting.uplink_bytes_mean, setting.wan_bytes_mean) == (50, pytest.approx(10 / 3))
    assert setting.memory_bytes == 12
    assert setting.leakage_mean == pytest.approx(0.2)
    assert setting.sim_latency_abs_pct_error == pytest.approx(20.0)


def test_the_table_has_two_rows_for_each(cost_model: CostModel) -> None:
    """Off above on, each with its decision."""
    technique = decision_techniques(make_fixed_scenario(), cost_model)[0]
    records = [make_record(policy=name, breakdown=Breakdown(compute_s=(0.1, 0, 0)), memory_bytes=(1, 0, 0)) for name in technique.players]
    grid = effect_grid(effects([technique], records))
    assert grid.header == HEADER
    assert [row[0].split()[1] for row in grid.rows] == ["off", "on"]
    assert technique.on.decision.label() in grid.rows[1][0]


def test_a_technique_that_was_not_played_is_an_error(cost_model: CostModel) -> None:
    """It is named with the reason, not left out; so is one whose settings have no block in common."""
    technique: Technique = decision_techniques(make_fixed_scenario(), cost_model)[0]
    lost = EpisodeFailure(policy="partition: on", seed=1, error="PeerLost: edge")
    off = make_record(policy="partition: off", seed=1)
    for records in ([off], [off, make_record(policy="partition: on", seed=2)]):
        with pytest.raises(InvalidInput, match="no block of partition .* PeerLost: edge"):
            effects([technique], records, [lost])


def test_a_lost_episode_takes_its_block_from_both_settings(cost_model: CostModel) -> None:
    """The second block is slow for both and one of its episodes broke: neither's figures know it, and what was lost is told."""
    technique: Technique = decision_techniques(make_fixed_scenario(), cost_model)[0]
    off, on = technique.players
    records = [
        make_record(policy=policy, seed=seed, request_id=index, latency_s=latency_s)
        for policy, seed, latency_s in ((off, 1, 0.05), (on, 1, 0.05), (off, 2, 0.15))
        for index in range(8)
    ]
    lost = EpisodeFailure(policy=on, seed=2, error="PeerLost: edge")
    other = EpisodeFailure(policy="another: on", seed=2, error="")
    (effect,) = effects([technique], records, [lost, other])
    assert (effect.off.requests, effect.on.requests) == (8, 8)
    assert effect.off.latency_p95_s == effect.on.latency_p95_s == pytest.approx(0.05)
    assert effect.lost == (lost,)
    assert lost_notice([effect])[0] == "lost: partition: on, seed 2: PeerLost: edge"
    assert lost_notice(effects([technique], records)) == []


def test_sharing_plays_beside_a_neighbour(cost_model: CostModel) -> None:
    """Both settings meet the same flood, named; only the edge's switch differs, and a flood is more than the edge can do."""
    shown = {technique.name: technique for technique in sharing_techniques(make_fixed_scenario(), cost_model)}
    assert set(shown) == {"dynamic batching", "multi-tenancy", "hand-over"}
    for technique in shown.values():
        off, on = technique.off.scenario, technique.on.scenario
        assert (off.background, off.workload, technique.off.decision) == (on.background, on.workload, technique.on.decision)
        assert by_events(on)
        assert not by_events(off)
        assert msgspec.structs.replace(on.topology, edge=off.topology.edge) == off.topology
    flood = shown["multi-tenancy"].on.scenario
    assert flood.background.tenant in {tenant.name for tenant in flood.topology.edge.tenancy.tenants}
    job_s = cost_model.mean("edge_s")[cost_model.find(shown["multi-tenancy"].on.decision)]
    assert flood.background.rate_per_s * job_s == pytest.approx(1.5)


def test_changes_by_hand() -> None:
    """Geometric mean of latency ratios, difference of right answers, ratio of energy and of bytes: over equal requests."""
    off = [
        make_record(request_id=index, latency_s=0.1, correct=True, energy_joules=0.2, link_bytes=(80, 20), status="ok")
        for index in range(8)
    ]
    on = [
        make_record(request_id=index, latency_s=0.05 if index < 4 else 0.2, correct=index != 0, energy_joules=0.1, link_bytes=(25, 0))
        for index in range(8)
    ]  # fmt: skip
    change = change_of(off, on)
    assert change.latency.mean == pytest.approx(0.0)
    assert change.latency.low < 0 < change.latency.high
    assert change.accuracy is not None
    assert change.accuracy.mean == pytest.approx(-1 / 8)
    assert change.energy is not None
    assert change.energy.mean == pytest.approx(-0.5)
    assert change.energy.low <= change.energy.mean <= change.energy.high
    assert change.link_bytes == -0.75


def test_being_refused_early_is_no_merit() -> None:
    """A request that failed at once counts with its deadline, one that failed later with its own time."""
    assert waited_of(make_record(latency_s=0.001, status="overload", deadline_s=0.3)) == 0.3
    assert waited_of(make_record(latency_s=0.4, status="deadline", deadline_s=0.3)) == 0.4
    assert waited_of(make_record(latency_s=0.001, deadline_s=0.3)) == 0.001


def test_the_legend_says_what_each_is(cost_model: CostModel) -> None:
    """A line for every technique of the table, and how to read it."""
    techniques = decision_techniques(make_fixed_scenario(), cost_model)
    players = [name for technique in techniques for name in technique.players]
    lines = legend(effects(techniques, [make_record(policy=name) for name in players]))
    for technique in techniques:
        assert any(line.startswith(technique.name) and technique.what in line for line in lines)
