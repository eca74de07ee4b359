"""The vectorised simulator against an event-driven one that shares none of its code, and against its own promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from envs.costs import legal_decisions
from envs.raw_state import RAW_FIELDS, RawState
from envs.reward import Objective, cost
from envs.scenario import Scenario
from envs.sim import VectorSim
from envs.simulated import SimulatedSystem
from envs.simulation.setup import Setup
from envs.workload import BackgroundConfig
from runtime.errors import InvalidConfig, InvalidProfile
from runtime.messages import Decision
from runtime.profile import Profile
from runtime.radios import RADIOS
from runtime.rates import CellularRate
from runtime.topology import LinkConfig
from tests.envs.busy import busy_scenario
from tests.envs.profiles import (
    DIFFICULTY_TARGETS,
    NUM_EXAMPLES,
    TECHNIQUES,
    looking,
    make_profile,
    make_rich_profile,
    with_difficulty,
)
from tests.envs.reference_sim import World

NUM_ENVS = 2
SEEDS = (101, 102)
PRICED = Objective(leakage=0.3, memory_per_byte=1e-9, uplink_per_byte=1e-6)


def changed(**places: object) -> Scenario:
    """`congested` with other values; `topology__uplink=...` reaches inside."""
    scenario = busy_scenario()
    for place, value in places.items():
        outer, _, inner = place.partition("__")
        if inner:
            value = msgspec.structs.replace(getattr(scenario, outer), **{inner: value})
        scenario = msgspec.structs.replace(scenario, **{outer: value})
    return scenario


def worlds() -> dict[str, Scenario]:
    """Scenarios that between them use every branch of the simulator."""
    wild = CellularRate(median_bytes_per_s=300_000, sigma=1.5, fade_every_s=3.0, fade_s=1.0, fade_factor=0.01)
    varying = LinkConfig(rate=wild, down_rate=wild, delay_s=0.02, jitter_s=0.03)
    return {
        "congested": busy_scenario(),
        "every term priced": changed(objective=PRICED),
        "links vary both ways": changed(topology__wan=varying, topology__uplink=varying),
        "real links": changed(topology__wan=LinkConfig(emulated=False), topology__uplink=LinkConfig(emulated=False)),
        "few in flight": changed(topology__max_in_flight=3),
        "no neighbours": changed(background=BackgroundConfig()),
        "longer than the trace": changed(workload__rate_per_s=1.2, workload__burst_rate_per_s=2.0),
        "receiving draws power": changed(objective=PRICED, topology__radio_power=RADIOS["wifi"]),
        "slow telemetry": changed(topology__telemetry_period_s=0.7),
    }


class Played(NamedTuple):
    """A played episode: [R, N] and observations [R, fields, N]."""

    latency_s: np.ndarray
    cost: np.ndarray
    answered: np.ndarray
    observed: np.ndarray


def play(sim: VectorSim, actions: np.ndarray) -> Played:
    """The first episode of SEEDS; every request must end exactly once."""
    raw = sim.reset(SEEDS)
    num, num_envs = actions.shape
    missing = np.full((num, num_envs), np.nan)
    played = Played(missing.copy(), missing.copy(), missing > 0, np.zeros((num, len(RAW_FIELDS), num_envs)))
    for index, row in enumerate(actions):
        played.observed[index] = raw.matrix
        step = sim.step(row)
        raw, ended = step.raw, step.ended
        assert np.isnan(played.latency_s[ended.request, ended.env]).all()
        played.latency_s[ended.request, ended.env] = ended.latency_s
        played.cost[ended.request, ended.env] = ended.cost
        played.answered[ended.request, ended.env] = ended.answered
        assert step.done.all() == (index == len(actions) - 1)
        np.testing.assert_allclose(step.reward, -np.bincount(ended.env, ended.cost, NUM_ENVS))
    assert not np.isnan(played.latency_s).any()
    return played


def random_actions(num_decisions: int, num_requests: int = 300, num_envs: int = NUM_ENVS) -> np.ndarray:
    """Any decision at any time: requests overtake one another at every queue."""
    return np.random.default_rng(0).integers(num_decisions, size=(num_requests, num_envs))


@pytest.fixture(params=worlds())
def scenario(request: pytest.FixtureRequest) -> Scenario:
    """One of the worlds."""
    return worlds()[request.param]


def check_exactness(scenario: Scenario, profile: Profile, decisions: Sequence[Decision]) -> None:
    actions = random_actions(len(decisions))
    played = play(VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, pool_size=1), actions)
    for env, seed in enumerate(SEEDS):
        world = World(scenario, profile, seed)
        outcomes = world.play([decisions[action] for action in actions[:, env]])
        assert played.answered[:, env].tolist() == [outcome.status == "ok" for outcome in outcomes]
        np.testing.assert_allclose(played.latency_s[:, env], [outcome.latency_s for outcome in outcomes], rtol=0, atol=1e-9)
        np.testing.assert_allclose(played.cost[:, env], world.costs(outcomes), rtol=0, atol=1e-8)


def test_it_is_exact(scenario: Scenario) -> None:
    """Latencies, outcomes and costs are those of the event-driven simulation, whoever overtakes whom."""
    profile = make_profile(scenario)
    check_exactness(scenario, profile, legal_decisions(profile))


def test_it_is_exact_with_codecs_and_early_exits(scenario: Scenario) -> None:
    """So it is where examples leave at exits of their own and tensors are encoded."""
    scenario = msgspec.structs.replace(scenario, techniques=TECHNIQUES)
    profile = make_rich_profile(scenario)
    check_exactness(scenario, profile, legal_decisions(profile, TECHNIQUES))


def test_it_is_exact_where_inputs_are_looked_at() -> None:
    """So it is where the device looks at every input first: it takes its time and energy, and tells what the profile holds."""
    scenario = looking(changed(objective=PRICED, techniques=TECHNIQUES))
    profile = with_difficulty(make_rich_profile(scenario))
    check_exactness(scenario, profile, legal_decisions(profile, TECHNIQUES))


def test_it_tells_each_examples_difficulty() -> None:
    """Request by request the same as the event-driven simulation's messages; nothing where inputs are not looked at."""
    scenario, profile = looking(busy_scenario()), with_difficulty(make_profile())
    decisions = legal_decisions(profile)
    actions = random_actions(len(decisions))
    sim = VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, pool_size=1)
    raw, told = sim.reset(SEEDS), []
    for row in actions:
        assert raw.difficulty is not None
        told.append(raw.difficulty)
        raw = sim.step(row).raw
    for env, seed in enumerate(SEEDS):
        world = World(scenario, profile, seed)
        world.play([decisions[action] for action in actions[:, env]])
        assert [tuple(column[:, env].tolist()) for column in told] == [observation.difficulty for observation in world.observations]
        step = SimulatedSystem(scenario, profile).reset(seed)
        assert step.observation is not None
        assert step.observation.difficulty == world.observations[0].difficulty
    assert VectorSim(busy_scenario(), profile, NUM_ENVS, decisions=decisions, pool_size=1).reset(SEEDS).difficulty is None


def test_errors_expected_of_the_input_are_charged_where_they_are_told() -> None:
    """With `expected_error` an answer costs what its example's prediction says, by hand, and its exit's average where none is made."""
    scenario, profile = looking(busy_scenario()), with_difficulty(make_profile())
    decisions = legal_decisions(profile)
    sim = VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, expected_error=True, pool_size=1)
    answers, examples = Setup(scenario, profile, sim.cost_model, "validation", expected_error=True).answers, np.arange(NUM_EXAMPLES)
    for action, decision in enumerate(decisions):
        wrong = answers.wrong(np.full(NUM_EXAMPLES, action), examples)
        target = (decision.variant, decision.exit)
        if target in DIFFICULTY_TARGETS:
            np.testing.assert_allclose(wrong, profile.predicted_errors("validation")[DIFFICULTY_TARGETS.index(target)], atol=1e-12)
        else:
            assert set(wrong.tolist()) == {sim.cost_model.expected_error[action]}


def test_it_observes_exactly(scenario: Scenario) -> None:
    """What a policy is told is what the event-driven simulation's messages told: reports, estimates, their ages."""
    profile = make_profile(scenario)
    decisions = legal_decisions(profile)
    actions = random_actions(len(decisions))
    played = play(VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, pool_size=1), actions)
    for env, seed in enumerate(SEEDS):
        world = World(scenario, profile, seed)
        world.play([decisions[action] for action in actions[:, env]])
        told = RawState.from_observations(world.observations).matrix.T
        ours = played.observed[:, :, env]
        # between a decision and the start of its compute lies half the base overhead: either queue length is right then
        gaps_s = np.diff([observation.at_s for observation in world.observations], prepend=-1.0)
        settled = gaps_s > profile.overheads.base_s
        agree = np.isclose(ours, told, rtol=1e-4, atol=1e-6) | ~settled[:, None]
        # a probe of an idle link is judged idle when its answer is looked at, not when it is sent
        assert agree.mean(axis=0).min() >= 0.98, {name: agree[:, row].mean() for row, name in enumerate(RAW_FIELDS)}
        assert agree.mean() > 0.998


def test_a_seed_s_episode_does_not_depend_on_its_neighbours() -> None:
    """The same seed plays the same episode alone, among others, and as the typed system."""
    scenario, profile = busy_scenario(), make_profile()
    decisions = legal_decisions(profile)
    actions = random_actions(len(decisions))
    both = play(VectorSim(scenario, profile, NUM_ENVS, decisions=decisions), actions)
    replayed = SimulatedSystem(scenario, profile).replay(SEEDS[1], {k: decisions[a] for k, a in enumerate(actions[:, 1])})
    latency_s = {outcome.request_id: outcome.latency_s for outcome in replayed}
    np.testing.assert_allclose(both.latency_s[:, 1], [latency_s[k] for k in range(300)], rtol=0, atol=1e-9)


def test_later_episodes_are_paid_for_too() -> None:
    """Over several episodes every request ends once, and a new one begins from empty queues."""
    scenario, profile = busy_scenario(), make_profile()
    sim = VectorSim(scenario, profile, NUM_ENVS, decisions=legal_decisions(profile), pool_size=8)
    sim.reset(SEEDS)
    num_ended = 0
    for row in random_actions(len(sim.decisions), 3 * sim.num_requests):
        step = sim.step(row)
        num_ended += len(step.ended.env)
        if step.done.all():
            assert num_ended % (NUM_ENVS * sim.num_requests) == 0
            assert (step.raw.num_in_flight == 0).all()
            assert (step.raw.uplink_outstanding_bytes == 0).all()
            assert (sim.pending_cost == 0).all()
    assert num_ended == 3 * NUM_ENVS * sim.num_requests


def test_the_same_seeds_give_the_same_episodes() -> None:
    """Resetting again repeats all of them, those after the first too; other seeds give others."""
    scenario, profile = busy_scenario(), make_profile()
    sim = VectorSim(scenario, profile, NUM_ENVS, decisions=legal_decisions(profile), pool_size=4)
    actions = random_actions(len(sim.decisions), 2 * sim.num_requests)

    def rewards(seeds: tuple[int, int]) -> np.ndarray:
        sim.reset(seeds)
        return np.array([sim.step(row).reward for row in actions])

    first = rewards(SEEDS)
    assert (rewards(SEEDS) == first).all()
    assert not np.array_equal(rewards((7, 8)), first)


def test_pending_cost_is_what_comes_if_nobody_decides_any_more() -> None:
    """It equals the costs of the requests in flight when all later ones are refused, and looking at it changes nothing."""
    scenario, profile = busy_scenario(), make_profile()
    decisions = legal_decisions(profile)
    actions = random_actions(len(decisions))
    sim, watched = (VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, pool_size=1) for _ in range(2))
    sim.reset(SEEDS)
    watched.reset(SEEDS)
    ended: list[set[int]] = [set() for _ in SEEDS]
    for index, row in enumerate(actions[:60]):
        expected, step = sim.step(row), watched.step(row)
        assert (step.reward == expected.reward).all()
        assert (step.raw.matrix == expected.raw.matrix).all()
        for env, request in zip(step.ended.env.tolist(), step.ended.request.tolist(), strict=True):
            ended[env].add(request)
        pending = watched.pending_cost
        if index % 20 == 19:
            for env, seed in enumerate(SEEDS):
                decided = {k: decisions[a] for k, a in enumerate(actions[: index + 1, env])}
                outcomes = SimulatedSystem(scenario, profile).replay(seed, decided)
                left = [cost(scenario.objective, o) for o in outcomes if o.request_id <= index and o.request_id not in ended[env]]
                assert pending[env] == pytest.approx(sum(left), abs=1e-9)
                assert left


def test_errors_may_be_expectations() -> None:
    """With `expected_error` an answer costs its exit's average error, else whether that very example is wrong."""
    scenario, profile = busy_scenario(), make_profile()
    decisions = legal_decisions(profile)
    actions = random_actions(len(decisions))
    sims = [VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, expected_error=flag, pool_size=1) for flag in (False, True)]
    realised, expected = (play(sim, actions) for sim in sims)
    answered, error = realised.answered, scenario.objective.error
    difference = (realised.cost - expected.cost)[answered]
    average = error * np.array(sims[0].cost_model.expected_error)[actions][answered]
    np.testing.assert_allclose(np.abs(difference + average) * np.abs(difference + average - error), 0.0, atol=1e-9)
    assert (realised.cost[~answered] == expected.cost[~answered]).all()


def test_the_catalogue_is_the_default() -> None:
    """Without decisions, actions are the catalogue's."""
    sim = VectorSim(busy_scenario(), make_profile(), 1)
    assert 1 < len(sim.decisions) <= 64
    assert sim.decisions == sim.cost_model.decisions


def test_impossible_demands_are_refused() -> None:
    """Too long, seeds that do not fit, or a profile without that split: a typed error says so."""
    profile: Profile = make_profile()
    with pytest.raises(InvalidConfig, match="fit"):
        VectorSim(changed(workload__num_requests=100_000), profile, 256, decisions=legal_decisions(profile))
    with pytest.raises(ValueError, match="one seed per environment"):
        VectorSim(busy_scenario(), profile, 2, decisions=legal_decisions(profile)).reset([1])
    with pytest.raises(InvalidProfile, match="no accuracy"):
        VectorSim(busy_scenario(), profile, 2, split="unheard-of")
    with pytest.raises(InvalidProfile, match=r"techniques\.difficulty off"):
        VectorSim(looking(busy_scenario()), profile, 2)
