"""Scenarios whose nodes reuse answers, and what holds of the two simulators on them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from envs.inputs import InputsConfig
from envs.scenario import Scenario
from envs.sim import VectorSim
from envs.simulated import SimulatedSystem
from runtime.messages import Decision, Outcome
from runtime.models.examples import Examples
from runtime.profile import Profile
from runtime.topology import TierConfig
from tests.envs.busy import busy_scenario
from tests.envs.profiles import NUM_EXAMPLES, TECHNIQUES, make_rich_profile
from tests.envs.reference_sim import World
from tests.envs.test_sim import NUM_ENVS, SEEDS, play, random_actions

LOOKUP_S = 0.0007
THUMBNAIL_S = 0.0004
EDGE_LOOKUP_S, EDGE_LOOKUP_S_PER_BYTE = 0.0003, 2e-8


def reusing(inputs: InputsConfig, device: dict[str, object], edge: dict[str, object]) -> tuple[Scenario, Profile]:
    """The busy scenario with these inputs and tiers so changed, and a profile for it."""
    scenario = msgspec.structs.replace(busy_scenario(), techniques=TECHNIQUES)
    topology = scenario.topology

    def tier(config: TierConfig, changes: dict[str, object]) -> TierConfig:
        return msgspec.structs.replace(config, **changes)

    scenario = msgspec.structs.replace(
        scenario,
        topology=msgspec.structs.replace(topology, device=tier(topology.device, device), edge=tier(topology.edge, edge)),
        workload=msgspec.structs.replace(scenario.workload, inputs=inputs),
    )
    profile = msgspec.structs.replace(
        make_rich_profile(scenario),
        lookup_s=LOOKUP_S,
        thumbnail_s=THUMBNAIL_S,
        edge_lookup_s=EDGE_LOOKUP_S,
        edge_lookup_s_per_byte=EDGE_LOOKUP_S_PER_BYTE,
    )
    return scenario, profile


def few(decisions: tuple[Decision, ...], step: int = 7) -> tuple[Decision, ...]:
    """Some decisions that ask few questions, so that answers come again: two variants, whole and early, anywhere, any codec."""
    last = max(decision.exit for decision in decisions)
    return tuple(decision for decision in decisions if decision.exit == last)[::step]


def make_examples() -> Examples:
    """As many pictures as the hand-made profiles judge, 64 x 64, each a few rectangles, of ten classes."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, size=(NUM_EXAMPLES, 1, 1, 8, 8), dtype=np.uint8)
    return Examples(images=coarse.repeat(8, axis=-2).repeat(8, axis=-1), labels=rng.integers(10, size=NUM_EXAMPLES))


def check_exactness(scenario: Scenario, profile: Profile, decisions: Sequence[Decision], examples: Examples | None = None) -> list[Outcome]:
    """Latencies, costs, reuse and answers are the same of the vectorised, the typed and the event-driven simulator.

    Returns the last one's outcomes.
    """
    actions = random_actions(len(decisions))
    played = play(VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, pool_size=1, examples=examples), actions)
    everything: list[Outcome] = []
    for env, seed in enumerate(SEEDS):
        chosen = [decisions[action] for action in actions[:, env]]
        world = World(scenario, profile, seed, examples=examples)
        outcomes = world.play(chosen)
        assert played.answered[:, env].tolist() == [outcome.status == "ok" for outcome in outcomes]
        np.testing.assert_allclose(played.latency_s[:, env], [outcome.latency_s for outcome in outcomes], rtol=0, atol=1e-9)
        np.testing.assert_allclose(played.cost[:, env], world.costs(outcomes), rtol=0, atol=1e-8)
        replayed = SimulatedSystem(scenario, profile, examples=examples).replay(seed, dict(enumerate(chosen)))
        typed = sorted(replayed, key=lambda one: one.request_id)
        assert [seen(one) for one in typed] == [seen(one) for one in outcomes]
        for one in typed:
            if one.status == "ok":
                assert abs(one.breakdown.total_s() - one.latency_s) < 1e-9
        everything += outcomes
    return everything


def seen(outcome: Outcome) -> tuple[object, ...]:
    """What an outcome says of reuse."""
    return outcome.reused, outcome.reused_at, outcome.correct, outcome.decision if outcome.status == "ok" else None, outcome.status
