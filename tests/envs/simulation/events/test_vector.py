"""N event-driven episodes side by side keep the vectorised simulator's promises."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.costs import legal_decisions
from envs.reward import cost
from envs.scenario import Scenario
from envs.simulation.events.system import EventSystem
from envs.simulation.events.vector import EventSim
from runtime.errors import InvalidDecision
from runtime.inference.batching import BatchingConfig
from tests.envs.profiles import make_profile
from tests.envs.simulation.events.plays import steady, with_tier

SEEDS = (3, 4)
NUM_REQUESTS = 60


def scenario() -> Scenario:
    """Batches on the edge, few in flight, so that some are refused."""
    batching = with_tier(steady(25.0, 20.0, NUM_REQUESTS), "edge", batching=BatchingConfig(max_batch=4, fixed_fraction=0.5))
    return msgspec.structs.replace(batching, topology=msgspec.structs.replace(batching.topology, max_in_flight=4))


def made(*, expected_error: bool = False) -> EventSim:
    """Two environments of all decisions."""
    profile = make_profile()
    return EventSim(scenario(), profile, len(SEEDS), decisions=legal_decisions(profile), expected_error=expected_error)


def actions(num_steps: int) -> np.ndarray:
    """Any decision at any time."""
    return np.random.default_rng(0).integers(len(legal_decisions(make_profile())), size=(num_steps, len(SEEDS)))


def test_rewards_are_the_costs_of_the_typed_system() -> None:
    """Every request ends once within its episode; what it cost is what its outcome costs."""
    sim = made()
    raw = sim.reset(SEEDS)
    total, decided = np.zeros(len(SEEDS)), [dict[int, int]() for _ in SEEDS]
    ended: list[tuple[int, int]] = []
    for index, row in enumerate(actions(NUM_REQUESTS)):
        assert len(raw) == len(SEEDS)
        for env, action in enumerate(row.tolist()):
            decided[env][index] = action
        step = sim.step(row)
        total, raw = total + step.reward, step.raw
        ended += zip(step.ended.env.tolist(), step.ended.request.tolist(), strict=True)
        assert step.done.all() == (index == NUM_REQUESTS - 1)
    assert sorted(ended) == [(env, request) for env in range(len(SEEDS)) for request in range(NUM_REQUESTS)]
    for env, seed in enumerate(SEEDS):
        chosen = {request: sim.decisions[action] for request, action in decided[env].items()}
        outcomes = EventSystem(scenario(), make_profile()).replay(seed, chosen)
        assert any(outcome.status == "overload" for outcome in outcomes)
        assert total[env] == pytest.approx(-sum(cost(scenario().objective, outcome) for outcome in outcomes))


def test_the_same_seeds_give_the_same_episodes() -> None:
    """Those after the first too; other seeds give others."""

    def rewards(seeds: tuple[int, ...]) -> np.ndarray:
        sim = made()
        sim.reset(seeds)
        return np.array([sim.step(row).reward for row in actions(NUM_REQUESTS + 20)])

    assert (rewards(SEEDS) == rewards(SEEDS)).all()
    assert not np.array_equal(rewards(SEEDS), rewards((8, 9)))


def test_pending_costs_are_a_potential() -> None:
    """They are there while requests are, and gone when an episode ends."""
    sim = made()
    sim.reset(SEEDS)
    assert (sim.pending_cost == 0).all()
    pending = []
    for row in actions(NUM_REQUESTS):
        sim.step(row)
        pending.append(sim.pending_cost)
    assert np.array(pending[:-1]).max() > 0
    assert (pending[-1] == 0).all()


def test_errors_may_be_expectations() -> None:
    """With `expected_error` the same answers cost their exits' average error, on average the same."""
    costs = []
    for expected_error in (False, True):
        sim = made(expected_error=expected_error)
        sim.reset(SEEDS)
        ended = [sim.step(row).ended for row in actions(NUM_REQUESTS)]
        costs.append(
            {(env, request): value for each in ended for env, request, value in zip(each.env, each.request, each.cost, strict=True)}
        )
    realised, expected = costs
    differences = {round(abs(realised[key] - expected[key]), 9) for key in realised}
    assert 0.0 in differences  # of failures
    assert len(differences) > 3


def test_one_seed_for_each_and_no_tau() -> None:
    """Else nobody would know whose is whose; and nothing trains here."""
    with pytest.raises(ValueError, match="one seed per environment"):
        made().reset([1])
    sim = made()
    sim.reset(SEEDS)
    with pytest.raises(InvalidDecision, match="no job trains"):
        sim.step(actions(1)[0], np.zeros(len(SEEDS), dtype=np.int64))
