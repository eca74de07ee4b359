"""The simulated system as a typed world: outcomes that add up, decisions that are checked."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from envs.raw_state import RawState
from envs.reward import Objective, cost, cost_terms, used_memory_bytes
from envs.scenario import Scenario
from envs.simulated import SimulatedSystem
from envs.simulation.events.system import EventSystem
from runtime.errors import InvalidDecision, SystemFailure
from runtime.messages import Breakdown, Decision, Outcome
from tests.envs.busy import busy_scenario
from tests.envs.profiles import TECHNIQUES, make_profile, make_rich_profile
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


@pytest.mark.parametrize("kind", [SimulatedSystem, EventSystem])
def test_a_device_that_only_encodes_is_used(kind: type[SimulatedSystem] | type[EventSystem]) -> None:
    """Both simulators say so as live devices do: nothing computed, seconds of the codec, and its memory is paid for every request."""
    scenario = msgspec.structs.replace(priced(), techniques=TECHNIQUES)
    profile = make_rich_profile(scenario)
    decision = Decision(model=profile.model, variant="fp32", cuts=(0, 7), exit=2, codec="identity+lz4")
    codec = profile.variants["fp32"].codecs[decision.codec]
    system = kind(scenario, profile)
    way = system.cost_model.way_decision.index(system.cost_model.find(decision))
    outcomes = system.replay(SEED, dict.fromkeys(range(300), decision))
    answered = [outcome for outcome in outcomes if outcome.status == "ok"]
    assert len(answered) > 20
    for outcome in answered:
        there = outcome.breakdown
        assert min(parts(there)) >= 0
        assert there.compute_s[0] == pytest.approx(0.0, abs=1e-12)
        assert there.codec_s == pytest.approx((codec.encode_s["device"][0], codec.decode_s["edge"][0], 0.0), abs=1e-9)
        assert cost_terms(scenario.objective, outcome)["memory"] == pytest.approx(1e-9 * system.cost_model.memory_bytes[way])


@pytest.mark.parametrize(("compute_s", "used_bytes"), [(3e-17, 0), (-2e-17, 0), (2e-9, 5), (0.1, 5)])
def test_what_rounding_leaves_is_no_use(compute_s: float, used_bytes: int) -> None:
    """The tier's memory is not charged for the sign of a difference, but for any computing, encoding or decoding."""
    assert used_memory_bytes((5, 7, 9), Breakdown(compute_s=(compute_s, 0.0, 0.0))) == used_bytes
    assert used_memory_bytes((5, 7, 9), Breakdown(compute_s=(compute_s, 0.0, 0.0), codec_s=(0.0, 0.001, 0.0))) == used_bytes + 7


def test_a_failed_request_s_encoding_comes_last() -> None:
    """What the device was busy with when the deadline passed is computing first, and encoding for the rest of it."""
    scenario = msgspec.structs.replace(priced(), techniques=TECHNIQUES)
    profile = make_rich_profile(scenario)
    decision = Decision(model=profile.model, variant="fp32", cuts=(3, 7), exit=2, codec="identity+lz4")
    stages_s = sum(profile.variants["fp32"].stage_s["device"][:3])
    encode_s = profile.variants["fp32"].codecs[decision.codec].encode_s["device"][3]
    failed = [one for one in SimulatedSystem(scenario, profile).replay(SEED, dict.fromkeys(range(300), decision)) if one.status == "deadline"]
    handed = [one.breakdown for one in failed if one.leakage > 0]
    assert handed
    for there in handed:
        assert (there.compute_s[0], there.codec_s[0]) == pytest.approx((stages_s, encode_s))
    for there in (one.breakdown for one in failed):
        busy_s = there.compute_s[0] + there.codec_s[0]
        assert there.codec_s[0] == pytest.approx(max(0.0, busy_s - stages_s), abs=1e-12)
