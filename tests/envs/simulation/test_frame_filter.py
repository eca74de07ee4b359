"""The simulated device's filter against the real one in an event-driven simulation."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.costs import legal_decisions
from envs.inputs import InputsConfig
from envs.sim import VectorSim
from envs.simulated import SimulatedSystem
from runtime.errors import InvalidProfile
from runtime.inference.cache import CacheConfig
from runtime.inference.filter import FilterConfig
from runtime.messages import Decision
from runtime.models.examples import Examples
from tests.envs.profiles import TECHNIQUES
from tests.envs.simulation.reusing import LOOKUP_S, THUMBNAIL_S, check_exactness, few, make_examples, reusing
from tests.envs.test_sim import SEEDS

CAMERA = InputsConfig(frames_per_picture=6.0, perturbation="noise", perturbed_fraction=0.7, stream="camera")
STILL = FilterConfig(threshold=12.0, max_age_s=2.0)
BLIND = FilterConfig(threshold=100.0, max_age_s=0.6, measure="mean", side=8)
"""Takes most pictures for one another."""

FILTERS = {
    "a still camera": ({"filter": STILL}, {}),
    "one that sees little": ({"filter": BLIND}, {}),
    "with both caches": ({"filter": STILL, "cache": CacheConfig()}, {"cache": CacheConfig()}),
}


@pytest.mark.parametrize("name", FILTERS)
def test_it_is_exact(name: str) -> None:
    """Verdicts, latencies, answers and costs are those of the event-driven simulation around the real filter."""
    device, edge = FILTERS[name]
    scenario, profile = reusing(CAMERA, dict(device), dict(edge))
    outcomes = check_exactness(scenario, profile, few(legal_decisions(profile, TECHNIQUES)), make_examples())
    skipped = [outcome for outcome in outcomes if outcome.reused == "filter-unchanged"]
    assert 20 < len(skipped) < len(outcomes)
    assert any(outcome.correct is False for outcome in skipped)


def test_a_skipped_frame_is_never_observed() -> None:
    """The device answers it by itself as the frame before: a look, no decision, no compute, nothing sent."""
    scenario, profile = reusing(CAMERA, {"filter": STILL, "cache": CacheConfig()}, {})
    system = SimulatedSystem(scenario, profile, examples=make_examples())
    end = profile.num_stages
    decision = Decision(model=profile.model, variant="int8", cuts=(end, end), exit=len(profile.exit_ends) - 1)
    step = system.reset(SEEDS[0])
    observed, outcomes = 0, list(step.outcomes)
    while step.observation is not None:
        observed += 1
        step = system.execute(decision)
        outcomes += step.outcomes
    skipped = [outcome for outcome in outcomes if outcome.reused == "filter-unchanged"]
    assert observed == len(outcomes) - len(skipped) - sum(outcome.status == "overload" for outcome in outcomes)
    assert len(skipped) > 50
    for outcome in skipped:
        assert outcome.latency_s == pytest.approx(profile.overheads.base_s + LOOKUP_S + THUMBNAIL_S)
        assert (outcome.decision, outcome.decided_by, outcome.exit) == (None, "nobody", decision.exit)
        assert sum(outcome.breakdown.compute_s) == sum(outcome.link_bytes) == outcome.leakage == 0


def test_without_a_stream_or_a_threshold_nothing_is_skipped() -> None:
    """Then nobody needs the pictures either; a look costs its time where the filter looks."""
    for inputs, filter_, look_s in (
        (msgspec.structs.replace(CAMERA, stream=""), STILL, 0.0),
        (CAMERA, FilterConfig(threshold=0.0), THUMBNAIL_S),
    ):
        scenario, profile = reusing(inputs, {"filter": filter_}, {})
        decision = legal_decisions(profile)[0]
        outcomes = SimulatedSystem(scenario, profile).replay(SEEDS[0], dict.fromkeys(range(300), decision))
        assert {outcome.reused for outcome in outcomes} == {"no"}
        assert {outcome.breakdown.reuse_s[0] for outcome in outcomes if outcome.status == "ok"} == {look_s}


def test_other_pictures_than_the_profile_s_are_refused() -> None:
    """Their verdicts would be joined with answers to others."""
    scenario, profile = reusing(CAMERA, {"filter": STILL}, {})
    examples = make_examples()
    fewer = Examples(images=examples.images[1:], labels=examples.labels[1:])
    with pytest.raises(InvalidProfile, match="measure it again"):
        VectorSim(scenario, profile, 1, examples=fewer)


def test_episodes_of_a_pool_bring_their_own_frames() -> None:
    """Later episodes are filtered by the frames of the workload that they play."""
    scenario, profile = reusing(CAMERA, {"filter": STILL}, {})
    sim = VectorSim(scenario, profile, 2, decisions=legal_decisions(profile), pool_size=3, examples=make_examples())
    sim.reset(SEEDS)
    shares = []
    for _ in range(2):
        skipped = []
        for _ in range(sim.num_requests):
            skipped.append(sim.skipped.mean())
            sim.step(np.full(2, len(sim.decisions) - 1))
        shares.append(np.mean(skipped))
    assert all(0.1 < share < 0.95 for share in shares)
