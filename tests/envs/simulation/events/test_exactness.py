"""The vectorised simulator against the nodes' own state machines, wherever both know all that happens."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from envs.costs import legal_decisions
from envs.raw_state import RAW_FIELDS, RawState
from envs.reward import cost
from envs.scenario import Scenario
from envs.sim import VectorSim
from envs.workload import BackgroundConfig, WorkloadConfig
from runtime.inference.cache import CacheConfig
from runtime.messages import Decision, Outcome
from runtime.models.examples import Examples
from runtime.profile import Profile
from runtime.rates import ConstantRate
from tests.envs.profiles import TECHNIQUES, looking, make_profile, make_rich_profile, with_difficulty
from tests.envs.simulation.events.plays import play, with_free_results, without_overheads
from tests.envs.simulation.reusing import few, make_examples, reusing
from tests.envs.simulation.test_edge_cache import PERTURBED, POPULAR
from tests.envs.simulation.test_frame_filter import CAMERA, STILL
from tests.envs.test_sim import NUM_ENVS, SEEDS, changed, random_actions, worlds
from tests.envs.test_sim import play as play_vectorised

FUTURE = (
    "cloud_num_own",
    "edge_num_own",
    "wan_outstanding_bytes",
    "uplink_outstanding_bytes",
    "device_backlog_s",
    "edge_backlog_s",
    "cloud_backlog_s",
)
"""What the vectorised simulator tells as it will be, and a device as decided: which exit a request leaves at, codecs' time and bytes."""


WORLDS = ("every term priced", "few in flight", "links vary both ways", "slow telemetry")
"""Others differ from these in what both simulators take from the same code, or in what only one of them knows."""
NUM_REQUESTS = 120


def check(
    scenario: Scenario, profile: Profile, decisions: Sequence[Decision], examples: Examples | None = None, unlike: tuple[str, ...] = ()
) -> list[Outcome]:
    """Latencies, costs, reuse and observations (but `unlike`) are the same; all outcomes."""
    scenario, profile = with_free_results(shortened(scenario)), without_overheads(profile)
    actions, everything = random_actions(len(decisions), NUM_REQUESTS), list[Outcome]()
    vectorised = play_vectorised(VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, pool_size=1, examples=examples), actions)
    for env, seed in enumerate(SEEDS):
        observations, outcomes = play(scenario, profile, seed, [decisions[action] for action in actions[:, env]], examples)
        assert vectorised.answered[:, env].tolist() == [outcome.status == "ok" for outcome in outcomes]
        np.testing.assert_allclose(vectorised.latency_s[:, env], [outcome.latency_s for outcome in outcomes], rtol=0, atol=1e-9)
        costs = [cost(scenario.objective, outcome) for outcome in outcomes]
        np.testing.assert_allclose(vectorised.cost[:, env], costs, rtol=0, atol=1e-8)
        begun = np.array([observation.at_s > 1.0 for observation in observations])
        told = RawState.from_observations(observations).matrix.T
        check_observed(vectorised.observed[begun, :, env], told[begun], unlike)
        everything += outcomes
    return everything


def shortened(scenario: Scenario) -> Scenario:
    """The same with fewer requests."""
    return msgspec.structs.replace(scenario, workload=msgspec.structs.replace(scenario.workload, num_requests=NUM_REQUESTS))


def check_observed(ours: np.ndarray, told: np.ndarray, unlike: tuple[str, ...]) -> None:
    """Up to what an episode's start differs by: the nodes measure links and exchange reports before it, and look at neither again
    for a while; the vectorised simulator measures at its beginning."""
    agree = np.isclose(ours, told, rtol=1e-4, atol=1e-6)
    rows = [row for row, name in enumerate(RAW_FIELDS) if name not in (*unlike, "uplink_age_s", "wan_age_s")]
    assert agree[:, rows].mean(axis=0).min() >= 0.98, {RAW_FIELDS[row]: agree[:, row].mean() for row in rows}


@pytest.mark.parametrize("name", WORLDS)
def test_it_is_exact(name: str) -> None:
    """Whoever overtakes whom, whatever the links do: the vectorised simulator is what the state machines do."""
    scenario = worlds()[name]
    profile = make_profile(scenario)
    check(scenario, profile, legal_decisions(profile))


def test_it_is_exact_with_codecs_and_early_exits() -> None:
    """So it is where examples leave at exits of their own and tensors are encoded."""
    scenario = changed(techniques=TECHNIQUES)
    profile = make_rich_profile(scenario)
    check(scenario, profile, legal_decisions(profile, TECHNIQUES), unlike=FUTURE)


def test_it_is_exact_where_difficulty_is_told() -> None:
    """Devices tell what the profile holds of each example."""
    scenario = looking(changed())
    profile = with_difficulty(make_profile(scenario))
    assert profile.difficulty is not None
    instant = msgspec.structs.replace(profile, difficulty=msgspec.structs.replace(profile.difficulty, look_s=0.0))
    check(scenario, instant, legal_decisions(profile))


def test_it_is_exact_with_caches() -> None:
    """The real caches hit where the vectorised ones do, and answer the same."""
    scenario, profile = reusing(PERTURBED, {"cache": CacheConfig(ttl_s=2.0)}, {"cache": CacheConfig()})
    outcomes = check(scenario, profile, few(legal_decisions(profile, TECHNIQUES)), unlike=(*FUTURE, "device_num_own"))
    assert {outcome.reused_at for outcome in outcomes} == {None, "device", "edge"}


def test_it_is_exact_with_a_filter() -> None:
    """The real filter skips what the vectorised one skips."""
    scenario, profile = reusing(CAMERA, {"filter": STILL}, {})
    outcomes = check(scenario, profile, few(legal_decisions(profile, TECHNIQUES)), make_examples(), unlike=(*FUTURE, "device_num_own"))
    assert sum(outcome.reused == "filter-unchanged" for outcome in outcomes) > 10


def test_overheads_add_up() -> None:
    """Where nobody waits for anybody, requests take in both simulators the same, whatever the runtime takes beside the work."""
    calm = changed(workload=WorkloadConfig(rate_per_s=0.7, burst_rate_per_s=0.7), background=BackgroundConfig())
    scenario, profile = reusing(POPULAR, {"cache": CacheConfig()}, {"cache": CacheConfig()})
    scenario = shortened(msgspec.structs.replace(scenario, workload=calm.workload, background=calm.background))
    uplink = msgspec.structs.replace(scenario.topology.uplink, rate=ConstantRate(bytes_per_s=1e6))
    scenario = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, uplink=uplink))
    decisions = few(legal_decisions(profile, TECHNIQUES))
    actions = random_actions(len(decisions), NUM_REQUESTS)
    vectorised = play_vectorised(VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, pool_size=1), actions)
    for env, seed in enumerate(SEEDS):
        outcomes = play(scenario, profile, seed, [decisions[action] for action in actions[:, env]]).outcomes
        ours = np.array([outcome.latency_s for outcome in outcomes])
        assert np.isclose(ours, vectorised.latency_s[:, env], rtol=0, atol=1e-9).mean() > 0.9
