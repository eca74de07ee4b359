"""Cold nodes and little memory, live and simulated: who must wait for a model waits, and no shorter than its files travel."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest

from benchmarks.loading import DEADLINE_S, LINK, RATE, VARIANTS, Played, alternating, cold_and_tight, play
from envs.live import launch_live
from envs.make import shipped_profile
from envs.simulators import simulated_system
from runtime.load_profiler import measure_loading
from runtime.models.manifest import Manifest, load_manifest
from runtime.models.pieces import files_of, pieces_of

pytestmark = pytest.mark.slow

NUM_REQUESTS, RATE_PER_S = 10, 1.0
TWICE_THE_DELAY_S = 2 * LINK.delay_s


def files_bytes(manifest: Manifest, request_id: int) -> int:
    """Of everything that a request's decision makes the edge load."""
    pieces = pieces_of(manifest, alternating(manifest.num_stages, request_id), "edge")
    return sum({file.sha256: file.num_bytes for piece in pieces for file in files_of(manifest, piece)}.values())


def ended_s(played: Played) -> float:
    """When a request had its answer."""
    return played.at_s + played.outcome.latency_s


def must_load(played: list[Played]) -> list[Played]:
    """Those that asked when all before them had their answers, the last of them one of the other variant: that is what the edge holds."""
    alone = [each for position, each in enumerate(played) if position and max(map(ended_s, played[:position])) < each.at_s]
    return [each for each in alone if variant_of(max(played[: played.index(each)], key=ended_s)) != variant_of(each)]


def variant_of(played: Played) -> str:
    """That of its decision, which nobody but the test took."""
    assert played.outcome.decided_by == "controller"
    assert played.outcome.decision is not None
    return played.outcome.decision.variant


@pytest.mark.parametrize("place", ["live", "simulated"])
def test_cold_nodes_wait(digits_model: Path, place: str) -> None:
    """The first of each variant for its files, later ones for loading it anew; the waits are part of latencies."""
    scenario, manifest = cold_and_tight(digits_model, RATE_PER_S, NUM_REQUESTS), load_manifest(digits_model)
    profile = msgspec.structs.replace(shipped_profile("digits-cnn"), loading=measure_loading(digits_model))
    system = launch_live(scenario, profile=profile) if place == "live" else simulated_system(scenario, profile, split="test")
    with contextlib.closing(system):
        played = play(system, manifest.num_stages, seed=5)
    assert [each.outcome.request_id for each in played] == list(range(NUM_REQUESTS))
    for each in played:
        assert each.outcome.status == "ok"
        assert each.outcome.latency_s < DEADLINE_S
        assert each.outcome.breakdown.total_s() == pytest.approx(each.outcome.latency_s, abs=1e-6)
    for request_id, first in enumerate(played[: len(VARIANTS)]):
        travel_s = files_bytes(manifest, request_id) / RATE.bytes_per_s + TWICE_THE_DELAY_S
        assert first.outcome.breakdown.load_s[1] > travel_s
    assert (loading := must_load(played))
    assert min(each.outcome.breakdown.load_s[1] for each in loading) > 0
