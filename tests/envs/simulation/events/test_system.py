"""The event-driven simulator as a typed world."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from envs.simulation.events.system import EventSystem
from runtime.errors import InvalidDecision, InvalidProfile, SystemFailure
from runtime.messages import Decision
from tests.envs.profiles import make_profile
from tests.envs.simulation.events.plays import SEED, steady

NUM_REQUESTS = 50


def made() -> EventSystem:
    """A few requests beside neighbours."""
    return EventSystem(steady(20.0, 20.0, NUM_REQUESTS), make_profile())


def any_decisions(system: EventSystem) -> dict[int, Decision]:
    """Request id -> any legal decision."""
    decisions = system.cost_model.decisions
    return {index: decisions[action] for index, action in enumerate(np.random.default_rng(1).integers(len(decisions), size=NUM_REQUESTS))}


def test_executing_is_replaying() -> None:
    """Deciding one by one gives the outcomes of the same decisions given at once, in the order they end."""
    system = made()
    decisions = any_decisions(system)
    step, executed, ends = system.reset(SEED), [], {}
    while step.observation is not None:
        ends[step.observation.request_id] = step.observation.at_s
        step = system.execute(decisions[step.observation.request_id])
        executed += step.outcomes
    assert tuple(executed) == system.replay(SEED, decisions)
    ended_s = [ends[outcome.request_id] + outcome.latency_s for outcome in executed]
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(ended_s))


def test_requests_without_a_decision_are_refused() -> None:
    """All others are decided and answered as they would be."""
    system = made()
    decisions = {index: decision for index, decision in any_decisions(system).items() if index % 5}
    outcomes = system.replay(SEED, decisions)
    assert len(outcomes) == NUM_REQUESTS
    for outcome in outcomes:
        assert (outcome.status == "overload") == (outcome.request_id % 5 == 0)
        assert outcome.decision == decisions.get(outcome.request_id)


def test_what_cannot_be_done_is_said() -> None:
    """Decisions that the model does not have, before an episode or after it, and neighbours whose variant was not profiled."""
    system = made()
    decision = system.cost_model.decisions[0]
    with pytest.raises(SystemFailure, match="reset"):
        system.execute(decision)
    system.reset(SEED)
    with pytest.raises(InvalidDecision):
        system.execute(msgspec.structs.replace(decision, variant="unheard-of"))
    system.close()
    with pytest.raises(SystemFailure, match="reset"):
        system.execute(decision)
    scenario = steady(20.0, 20.0)
    background = msgspec.structs.replace(scenario.background, variant="unheard-of")
    with pytest.raises(InvalidProfile, match="unheard-of"):
        EventSystem(msgspec.structs.replace(scenario, background=background), make_profile())
