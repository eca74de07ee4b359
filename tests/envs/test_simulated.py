"""The simulated system as a typed world: outcomes that add up, decisions that are checked."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from envs.raw_state import RawState
from envs.reward import Objective, cost, cost_terms
from envs.scenario import Scenario
from envs.simulated import SimulatedSystem
from runtime.errors import InvalidDecision, SystemFailure
from runtime.messages import Breakdown, Decision, Outcome
from tests.envs.busy import busy_scenario
from tests.envs.profiles import make_profile
from tests.envs.reference_sim import World

SEED = 7


def priced(max_in_flight: int = 32) -> Scenario:
    """`congested` with a price on everything."""
    scenario = busy_scenario()
    topology = msgspec.structs.replace(scenario.topology, max_in_flight=max_in_flight)
    objective = Objective(leakage=0.3, memory_per_byte=1e-9, uplink_per_byte=1e-6)
    return msgspec.structs.replace(scenario, topology=topology, objective=objective)


def any_decisions(system: SimulatedSystem, num: int = 300) -> dict[int, Decision]:
    """Request id -> any legal decision."""
    decisions = system.cost_model.decisions
    return {index: decisions[action] for index, action in enumerate(np.random.default_rng(1).integers(len(decisions), size=num))}


def parts(breakdown: Breakdown) -> list[float]:
    """All of its durations."""
    values = []
    for value in msgspec.structs.astuple(breakdown):
        values.extend(value if isinstance(value, tuple) else (value,))
    return values


@pytest.fixture(scope="module")
def system() -> SimulatedSystem:
    """Of the priced scenario, with the hand-made profile."""
    return SimulatedSystem(priced(), make_profile())


@pytest.fixture(scope="module")
def outcomes(system: SimulatedSystem) -> tuple[Outcome, ...]:
    """An episode of random decisions."""
    return system.replay(SEED, any_decisions(system))


def test_breakdowns_tile_the_latency(outcomes: tuple[Outcome, ...]) -> None:
    """Of answered and of failed requests, the parts sum to the latency, and none is negative."""
    assert {outcome.status for outcome in outcomes} == {"ok", "deadline"}
    for outcome in outcomes:
        assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s, abs=1e-12)
        assert min(parts(outcome.breakdown)) >= 0


def test_outcomes_are_those_of_the_event_driven_simulation(system: SimulatedSystem, outcomes: tuple[Outcome, ...]) -> None:
    """Status, latency, energy, bytes, leakage, and with them every cost term."""
    expected = World(priced(), make_profile(), SEED).play(list(any_decisions(system).values()))
    for outcome in outcomes:
        twin = expected[outcome.request_id]
        assert (outcome.status, outcome.decision, outcome.correct) == (twin.status, twin.decision, twin.correct)
        assert outcome.link_bytes[0] == twin.link_bytes[0]
        assert cost_terms(priced().objective, outcome) == pytest.approx(cost_terms(priced().objective, twin), abs=1e-9)


def test_outcomes_come_in_the_order_they_end(system: SimulatedSystem, outcomes: tuple[Outcome, ...]) -> None:
    """Each request's arrival plus its latency rises along the outcomes."""
    step, arrivals = system.reset(SEED), {}
    for _ in range(300):
        assert step.observation is not None
        arrivals[step.observation.request_id] = step.observation.at_s
        step = system.execute(any_decisions(system)[step.observation.request_id])
    ends = [arrivals[outcome.request_id] + outcome.latency_s for outcome in outcomes]
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(ends))


def test_executing_is_replaying() -> None:
    """Deciding one by one gives the outcomes of the same decisions given at once."""
    system, scenario = SimulatedSystem(priced(), make_profile()), priced()
    decisions = any_decisions(system)
    step, executed = system.reset(SEED), []
    while step.observation is not None:
        step = system.execute(decisions[step.observation.request_id])
        executed.extend(step.outcomes)
    replayed = system.replay(SEED, decisions)
    assert tuple(executed) == replayed
    assert sum(cost(scenario.objective, outcome) for outcome in executed) > 0


def test_a_full_device_refuses_by_itself() -> None:
    """With too many in flight a request fails at once, undecided and unobserved."""
    system = SimulatedSystem(priced(max_in_flight=2), make_profile())
    step, observed, refused = system.reset(SEED), set(), []
    decision = system.cost_model.decisions[-1]
    while step.observation is not None:
        assert step.observation.num_in_flight < 2
        observed.add(step.observation.request_id)
        step = system.execute(decision)
        refused += [outcome for outcome in step.outcomes if outcome.status == "overload"]
    assert refused
    for outcome in refused:
        assert outcome.request_id not in observed
        assert outcome.decision is None
        assert outcome.latency_s == pytest.approx(make_profile().overheads.base_s)
        assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)
    assert observed | {outcome.request_id for outcome in refused} == set(range(300))


def test_requests_without_a_decision_are_refused(system: SimulatedSystem) -> None:
    """Replaying an episode in which some requests never got a decision."""
    decisions = {index: decision for index, decision in any_decisions(system).items() if index % 3}
    statuses = {outcome.request_id: outcome.status for outcome in system.replay(SEED, decisions)}
    assert len(statuses) == 300
    assert all(statuses[index] == "overload" for index in range(0, 300, 3))


def test_observations_have_all_their_numbers(system: SimulatedSystem) -> None:
    """They survive becoming arrays and back, and count from request 0."""
    step = system.reset(SEED)
    assert step.observation is not None
    assert step.observation.request_id == 0
    assert step.outcomes == ()
    for _ in range(40):
        step = system.execute(system.cost_model.decisions[-1])
        observation = step.observation
        assert observation is not None
        again = RawState.from_observation(observation).to_observation(
            0, request_id=observation.request_id, model=observation.model, at_s=observation.at_s,
            device_num_waiting=observation.nodes[0].num_waiting,
        )  # fmt: skip
        assert again == observation


def test_what_cannot_be_done_is_said(system: SimulatedSystem) -> None:
    """A decision that the model does not have, and deciding when nothing is asked."""
    system.reset(SEED)
    with pytest.raises(InvalidDecision):
        system.execute(Decision(model="digits-cnn", variant="fp32", cuts=(0, 99), exit=0))
    fresh = SimulatedSystem(priced(), make_profile())
    with pytest.raises(SystemFailure, match="reset first"):
        fresh.execute(system.cost_model.decisions[0])
