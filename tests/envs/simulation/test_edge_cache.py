"""The simulated edge's cache against an event-driven one that shares none of its code."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from envs.costs import legal_decisions
from envs.inputs import InputsConfig
from envs.sim import VectorSim
from envs.simulated import SimulatedSystem
from envs.simulation.reuse import payload_questions
from runtime.inference.cache import CacheConfig
from runtime.messages import Decision
from tests.envs.profiles import TECHNIQUES
from tests.envs.simulation.reusing import EDGE_LOOKUP_S, EDGE_LOOKUP_S_PER_BYTE, check_exactness, few, reusing
from tests.envs.test_sim import NUM_ENVS, SEEDS, random_actions

ONE_ENTRY = 2700
"""Bytes, more or less."""
POPULAR = InputsConfig(zipf_exponent=2.0)
PERTURBED = InputsConfig(zipf_exponent=2.0, perturbation="noise", perturbed_fraction=0.4)

CACHES = {
    "roomy": (POPULAR, CacheConfig(), None),
    "short-lived": (POPULAR, CacheConfig(ttl_s=1.5), None),
    "small": (POPULAR, CacheConfig(max_bytes=10 * ONE_ENTRY), None),
    "small, short-lived, perturbed": (PERTURBED, CacheConfig(max_bytes=12 * ONE_ENTRY, ttl_s=2.0), None),
    "behind the device's": (POPULAR, CacheConfig(), CacheConfig(max_bytes=6 * ONE_ENTRY)),
}


@pytest.mark.parametrize("name", CACHES)
def test_it_is_exact(name: str) -> None:
    """Hits, latencies, answers and costs are those of the event-driven simulation, for the vectorised and the typed system."""
    inputs, at_edge, on_device = CACHES[name]
    scenario, profile = reusing(inputs, {"cache": on_device}, {"cache": at_edge})
    outcomes = check_exactness(scenario, profile, few(legal_decisions(profile, TECHNIQUES)))
    assert sum(outcome.reused_at == "edge" for outcome in outcomes) >= 5
    assert (on_device is not None) is any(outcome.reused_at == "device" for outcome in outcomes)


def test_a_hit_crosses_the_uplink_and_nothing_else() -> None:
    """The edge looks and answers: no compute above the device, no wan, nobody's memory; misses look too, and the parts tile."""
    scenario, profile = reusing(InputsConfig(zipf_exponent=8.0), {}, {"cache": CacheConfig()})
    decision = Decision(model=profile.model, variant="int8", cuts=(0, 3), exit=len(profile.exit_ends) - 1)
    outcomes = SimulatedSystem(scenario, profile).replay(SEEDS[0], dict.fromkeys(range(300), decision))
    hits = [outcome for outcome in outcomes if outcome.reused == "cache-exact"]
    assert len(hits) > 50
    look_s = EDGE_LOOKUP_S + EDGE_LOOKUP_S_PER_BYTE * profile.variants["int8"].cut_bytes[0]
    for hit in hits:
        assert hit.reused_at == "edge"
        assert sum(hit.breakdown.compute_s) == hit.link_bytes[1] == hit.down_bytes[1] == 0
        assert sum(hit.breakdown.queue_s) == pytest.approx(0, abs=1e-12)
        assert hit.link_bytes[0] == profile.variants["int8"].cut_bytes[0]
        assert hit.breakdown.transfer_s[1] == hit.breakdown.serialise_s[1] == 0
    for outcome in outcomes:
        if outcome.status == "ok":
            assert outcome.breakdown.reuse_s == pytest.approx((0.0, look_s, 0.0))
            assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)


def test_looking_ahead_changes_nothing() -> None:
    """Pending costs count what the cache will answer, and what was looked up meanwhile is forgotten again."""
    scenario, profile = reusing(POPULAR, {}, {"cache": CacheConfig(max_bytes=6 * ONE_ENTRY)})
    decisions = few(legal_decisions(profile, TECHNIQUES))
    sims = [VectorSim(scenario, profile, NUM_ENVS, decisions=decisions, pool_size=1) for _ in range(2)]
    for sim in sims:
        sim.reset(SEEDS)
    for row in random_actions(len(decisions)):
        expected, step = (sim.step(row) for sim in sims)
        assert (step.reward == expected.reward).all()
        assert (step.raw.matrix == expected.raw.matrix).all()
        assert np.isfinite(sims[1].pending_cost).all()


def test_what_is_sent_is_what_is_known() -> None:
    """First cut, codec, variant, exit and leaving early make the question; the second cut only where a codec loses something there."""
    _, profile = reusing(POPULAR, {}, {})
    decision = Decision(model="m", variant="a", cuts=(1, 2), exit=1)
    end = profile.exit_ends[1]
    others: list[dict[str, Any]] = [
        {"cuts": (1, 1)},
        {"cuts": (1, end)},
        {"codec": "identity+zstd"},
        {"variant": "b"},
        {"exit": 0},
        {"early_exit": True},
        {"cuts": (0, 2)},
        {"codec": "int8"},
        {"codec": "int8", "cuts": (1, end)},
        {"codec": "int8", "cuts": (1, 1)},
    ]
    numbers = payload_questions([decision, *(msgspec.structs.replace(decision, **other) for other in others)], profile)
    assert numbers.tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7]
