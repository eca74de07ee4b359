"""The simulated device's cache against an event-driven one that shares none of its code."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from envs.costs import legal_decisions
from envs.inputs import InputsConfig
from envs.scenario import Scenario
from envs.simulated import SimulatedSystem
from envs.simulation.reuse import cache_capacity, questions
from runtime.inference.cache import CacheConfig
from runtime.messages import Decision, Outcome
from runtime.profile import Profile
from tests.envs.profiles import TECHNIQUES
from tests.envs.simulation.reusing import LOOKUP_S, check_exactness, few, reusing
from tests.envs.test_sim import SEEDS

ONE_ENTRY = 2700
"""Bytes, more or less."""


def caching(cache: CacheConfig, *, zipf_exponent: float | None = 1.2, perturbed_fraction: float = 0.0) -> tuple[Scenario, Profile]:
    """The busy scenario with popular pictures before a device with a cache, and a profile for it."""
    inputs = InputsConfig(zipf_exponent=zipf_exponent, perturbation="noise", perturbed_fraction=perturbed_fraction)
    return reusing(inputs, {"cache": cache}, {})


CACHES = {
    "roomy": (CacheConfig(), 0.0),
    "short-lived": (CacheConfig(ttl_s=1.5), 0.0),
    "small": (CacheConfig(max_bytes=6 * ONE_ENTRY), 0.0),
    "small, short-lived, perturbed": (CacheConfig(max_bytes=12 * ONE_ENTRY, ttl_s=2.0), 0.4),
    "without room": (CacheConfig(max_bytes=0), 0.0),
}


@pytest.mark.parametrize("name", CACHES)
def test_it_is_exact(name: str) -> None:
    """Hits, latencies, answers and costs are those of the event-driven simulation, for the vectorised and the typed system."""
    cache, perturbed_fraction = CACHES[name]
    scenario, profile = caching(cache, perturbed_fraction=perturbed_fraction)
    outcomes = check_exactness(scenario, profile, few(legal_decisions(profile, TECHNIQUES)))
    assert any(outcome.reused != "no" for outcome in outcomes) is (name != "without room")


def test_a_hit_takes_a_look_up_and_nothing_else() -> None:
    """No compute, no link, half the overhead before and after; the parts tile; a miss looks too, before it is computed."""
    scenario, profile = caching(CacheConfig(), zipf_exponent=8.0)
    end = profile.num_stages
    decision = Decision(model=profile.model, variant="int8", cuts=(end, end), exit=len(profile.exit_ends) - 1)
    outcomes = SimulatedSystem(scenario, profile).replay(SEEDS[0], dict.fromkeys(range(300), decision))
    hits = [outcome for outcome in outcomes if outcome.reused == "cache-exact"]
    assert len(hits) > 100
    for hit in hits:
        assert hit.latency_s == pytest.approx(profile.overheads.base_s + LOOKUP_S)
        assert sum(hit.breakdown.compute_s) == sum(hit.link_bytes) == 0
        assert hit.breakdown.queue_s == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
        assert (hit.reused_at, hit.leakage) == ("device", 0.0)
    answered: list[Outcome] = [outcome for outcome in outcomes if outcome.status == "ok"]
    assert {outcome.breakdown.reuse_s for outcome in answered} == {(LOOKUP_S, 0.0, 0.0)}
    for outcome in answered:
        assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)


def test_where_it_is_cut_is_no_part_of_the_question() -> None:
    """Variant, exit and leaving early are, and cuts where a lossy codec takes something away."""
    _, profile = caching(CacheConfig())
    decision = Decision(model="m", variant="a", cuts=(0, 1), exit=1)
    end = profile.exit_ends[1]
    others: list[dict[str, Any]] = [
        {"cuts": (1, 1)},
        {"codec": "identity+zstd"},
        {"codec": "int8", "cuts": (end, end)},
        {"variant": "b"},
        {"exit": 0, "cuts": (0, 0)},
        {"early_exit": True},
        {"codec": "int8"},
        {"codec": "int8", "cuts": (1, 1)},
    ]
    numbers = questions([decision, *(msgspec.structs.replace(decision, **other) for other in others)], profile)
    assert numbers.tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5]


def test_a_cache_has_room_for_what_its_entries_count() -> None:
    """By the runtime's own account of an entry, some 2.7 kB for ten classes."""
    _, profile = caching(CacheConfig())
    assert cache_capacity(CacheConfig(max_bytes=0), profile) == 0
    assert cache_capacity(CacheConfig(max_bytes=10 * ONE_ENTRY), profile) == pytest.approx(10, abs=1)
    assert cache_capacity(CacheConfig(max_bytes=10 * ONE_ENTRY, max_distance=4), profile) <= 10
