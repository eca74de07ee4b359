"""What every `System` promises, whoever executes the decisions."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.costs import CostModel, build_cost_model
from envs.live import LiveSystem
from envs.make import shipped_profile
from envs.offload import OffloadEnv
from envs.reward import cost
from envs.scenario import Scenario
from envs.simulated import SimulatedSystem
from envs.simulation.events.system import EventSystem
from envs.system import Step, System
from runtime.host import StealMeter, is_disturbed
from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import Decision, Observation, Outcome
from runtime.models.examples import load_examples
from runtime.models.manifest import load_manifest
from runtime.profile import Profile
from tests.envs.busy import busy_scenario

SLACK_S = 0.5
"""How long past its deadline a request's end may be known, on a busy host."""
STALLED_SLACK_S = 5.0
"""The same on a machine whose host takes its processors away meanwhile."""
SEED, OTHER_SEED = 21, 25
NUM_REQUESTS = 40


def simulated(scenario: Scenario, profile: Profile, request: pytest.FixtureRequest) -> System:
    """The simulator."""
    return SimulatedSystem(scenario, profile, split="test")


def by_events(scenario: Scenario, profile: Profile, request: pytest.FixtureRequest) -> System:
    """The other simulator, on the nodes' own state machines."""
    return EventSystem(scenario, profile, split="test")


def live(scenario: Scenario, profile: Profile, request: pytest.FixtureRequest) -> System:
    """Real processes, started once for the whole module."""
    nodes: RunningNodes = request.getfixturevalue("nodes")
    model_dir: Path = request.getfixturevalue("digits_model")
    return LiveSystem(
        scenario,
        nodes.device_address,
        nodes.edge_address,
        load_manifest(model_dir),
        load_examples(model_dir, "test"),
        profile=profile,
    )


SYSTEMS = {"simulated": simulated, "simulated by events": by_events, "live": live}
"""Registering a system here enrols it in all these tests."""


@pytest.fixture(scope="module")
def profile() -> Profile:
    """The shipped one."""
    return shipped_profile("digits-cnn")


@pytest.fixture(scope="module")
def cost_model(profile: Profile) -> CostModel:
    """Of decisions that use every tier: device-only, edge-only, cloud-only, and one that spans all three."""
    decisions = [Decision(model="digits-cnn", variant="int8", cuts=cuts, exit=2) for cuts in ((7, 7), (0, 7), (0, 0), (2, 5))]
    return build_cost_model(profile, busy_scenario(NUM_REQUESTS), decisions)


@pytest.fixture(scope="module")
def nodes(digits_model: Path) -> Iterator[RunningNodes]:
    """Device, edge and cloud of the busy scenario."""
    with launch_nodes(busy_scenario(NUM_REQUESTS).topology, digits_model) as running:
        yield running


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest, profile: Profile) -> Iterator[System]:
    """One of the systems."""
    made = SYSTEMS[request.param](busy_scenario(NUM_REQUESTS), profile, request)
    yield made
    made.close()


def play(system: System, cost_model: CostModel, seed: int = SEED) -> tuple[list[Observation], list[Outcome], dict[int, Decision]]:
    """An episode of all decisions in turn: what was observed, what came of it, and what was decided for which request."""
    step: Step = system.reset(seed)
    observed, outcomes, decided = [], list(step.outcomes), {}
    while step.observation is not None:
        observed.append(step.observation)
        decision = cost_model.decisions[len(observed) % cost_model.num_decisions]
        decided[step.observation.request_id] = decision
        step = system.execute(decision)
        outcomes.extend(step.outcomes)
    return observed, outcomes, decided


def test_every_request_has_exactly_one_outcome(system: System, cost_model: CostModel) -> None:
    """By the time the episode is over, whatever became of them; and each is observed at most once."""
    observed, outcomes, _ = play(system, cost_model)
    assert sorted(outcome.request_id for outcome in outcomes) == list(range(NUM_REQUESTS))
    ids = [observation.request_id for observation in observed]
    assert len(set(ids)) == len(ids)


def test_outcomes_answer_by_id(system: System, cost_model: CostModel) -> None:
    """An outcome names the decision that was taken for its request, unless the device had to take one itself."""
    meter = StealMeter()
    _, outcomes, decided = play(system, cost_model)
    ours = [outcome for outcome in outcomes if outcome.decided_by == "controller"]
    stalled = isinstance(system, LiveSystem) and is_disturbed(meter.fraction())
    assert len(ours) >= (1 if stalled else 30)  # there the device takes those for which we were too late
    for outcome in ours:
        assert outcome.decision == decided[outcome.request_id]


def test_deadlines_hold(system: System, cost_model: CostModel) -> None:
    """Every request ends by its deadline plus a known slack, with an answer or with a reason."""
    meter = StealMeter()
    _, outcomes, _ = play(system, cost_model)
    slack_s = STALLED_SLACK_S if is_disturbed(meter.fraction()) else SLACK_S
    for outcome in outcomes:
        assert outcome.latency_s <= outcome.deadline_s + slack_s
        assert outcome.status == "ok" or outcome.message
        assert (outcome.correct is not None) == (outcome.status == "ok")


def test_breakdowns_tile_the_latency(system: System, cost_model: CostModel) -> None:
    """The parts of every outcome sum to its latency."""
    _, outcomes, _ = play(system, cost_model)
    for outcome in outcomes:
        assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s, abs=1e-6)


def test_what_is_used_shows(system: System, cost_model: CostModel) -> None:
    """Bytes cross the links that a decision needs, and only those; the device's energy is never free when it computes."""
    _, outcomes, _ = play(system, cost_model)
    for outcome in [outcome for outcome in outcomes if outcome.status == "ok" and outcome.decision is not None]:
        assert outcome.decision is not None
        p, q = outcome.decision.cuts
        assert (outcome.link_bytes[0] > 0, outcome.link_bytes[1] > 0) == (p < 7, q < 7)
        assert (outcome.leakage > 0) == (p < 7)
        assert outcome.energy_joules > 0
        assert [seconds > 0 for seconds in outcome.breakdown.compute_s] == [p > 0, q > p, q < 7]


def test_the_same_seed_is_the_same_workload(system: System, cost_model: CostModel) -> None:
    """Requests ask at the same times, as a rule (a host that stalls delays some); another seed asks at others."""
    meter = StealMeter()
    first, again, other = (
        {observation.request_id: observation.at_s for observation in play(system, cost_model, seed)[0]} for seed in (SEED, SEED, OTHER_SEED)
    )
    if is_disturbed(steal := meter.fraction()):
        pytest.skip(f"this machine's host took {steal:.0%} of its processor time away: when requests ask says nothing of the workload")
    same, different = (
        statistics.median(abs(first[index] - those[index]) for index in first.keys() & those.keys()) for those in (again, other)
    )
    assert same < different / 4


def test_closing_twice_is_once(system: System, cost_model: CostModel) -> None:
    """Also in the middle of an episode."""
    system.reset(SEED)
    system.execute(cost_model.decisions[0])
    system.close()
    system.close()


def test_rewards_sum_to_costs(system: System, cost_model: CostModel) -> None:
    """Through the environment: whatever order requests end in, an episode's rewards are minus their costs."""
    env = OffloadEnv(system, cost_model)
    env.reset(seed=SEED)
    total, outcomes, over = 0.0, [], False
    while not over:
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        over = terminated or truncated
        total += reward
        outcomes += info["outcomes"]
    assert terminated
    assert not truncated
    assert len(outcomes) == NUM_REQUESTS
    assert total == pytest.approx(-sum(cost(env.objective, outcome) for outcome in outcomes))
