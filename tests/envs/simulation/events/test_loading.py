"""Nodes that do not have everything in memory, simulated by their own code: who waits for what, and how long."""

from __future__ import annotations

import msgspec
import pytest

from envs.scenario import Scenario
from envs.simulation.events.scene import Scene
from envs.workload import BackgroundConfig
from runtime.errors import InvalidProfile
from runtime.messages import CHUNK_BYTES, Decision, Outcome
from runtime.profile import Profile
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig
from tests.envs.profiles import GRAPH_BYTES, WEIGHTS_BYTES, make_profile, with_loading
from tests.envs.simulation.events.plays import (
    EDGE_ONLY,
    SEED,
    Played,
    play,
    steady,
    with_tier,
    without_overheads,
)

INT8 = msgspec.structs.replace(EDGE_ONLY, variant="int8")
ALL_OF_FP32_S = 0.040 + 0.010 + 7 * 0.005
"""Weights, a session, seven stages."""
RATE_BYTES_PER_S, DELAY_S = 1e6, 0.025
WAN = LinkConfig(rate=ConstantRate(bytes_per_s=RATE_BYTES_PER_S), down_rate=ConstantRate(bytes_per_s=RATE_BYTES_PER_S), delay_s=DELAY_S)


def calm(num_requests: int) -> Scenario:
    """Requests that never meet, and nobody beside them."""
    scenario = msgspec.structs.replace(steady(0.2, num_requests=num_requests), background=BackgroundConfig())
    return msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, wan=WAN))


def play_with(scenario: Scenario, *chosen: Decision, profile: Profile | None = None) -> Played:
    """The episode with these decisions; what the runtime takes beside is left out."""
    return play(scenario, profile or with_loading(without_overheads(make_profile(scenario))), SEED, chosen)


def edge_loads_s(outcomes: list[Outcome]) -> list[float]:
    """What each waited for the edge to load."""
    return [outcome.breakdown.load_s[1] for outcome in outcomes]


def test_the_first_request_waits_for_its_piece_and_the_second_does_not() -> None:
    """By hand: weights, session and stages; then the same piece is there.  The wait is the latency's, the rest is as with all there."""
    late = with_tier(calm(2), "edge", model_memory_bytes=10_000_000)
    observations, outcomes = play_with(late, EDGE_ONLY, EDGE_ONLY)
    assert edge_loads_s(outcomes) == pytest.approx([ALL_OF_FP32_S, 0.0], abs=1e-9)
    always = play_with(calm(2), EDGE_ONLY, EDGE_ONLY).outcomes
    assert [outcome.latency_s for outcome in outcomes] == pytest.approx(
        [always[0].latency_s + ALL_OF_FP32_S, always[1].latency_s], abs=1e-9
    )
    device, edge, cloud = ([node.loaded for node in nodes] for nodes in zip(*(each.nodes for each in observations), strict=True))
    assert edge == [(), ("digits-cnn/fp32",)]
    assert device == cloud == [("digits-cnn/fp32", "digits-cnn/int8")] * 2


def test_another_piece_of_a_variant_needs_no_weights() -> None:
    """They are in memory once, whichever pieces take them."""
    half = msgspec.structs.replace(EDGE_ONLY, cuts=(0, 3))
    late = with_tier(calm(2), "edge", model_memory_bytes=10_000_000)
    assert edge_loads_s(play_with(late, EDGE_ONLY, half).outcomes) == pytest.approx([ALL_OF_FP32_S, 0.010 + 3 * 0.005], abs=1e-9)


def test_variants_that_do_not_fit_together_evict_each_other() -> None:
    """Memory for either: each change loads again, weights and all; who comes back to what is there waits for nothing."""
    tight = with_tier(calm(5), "edge", model_memory_bytes=GRAPH_BYTES + WEIGHTS_BYTES)
    outcomes = play_with(tight, EDGE_ONLY, INT8, EDGE_ONLY, EDGE_ONLY, INT8).outcomes
    int8_s = ALL_OF_FP32_S / 2
    assert edge_loads_s(outcomes) == pytest.approx([ALL_OF_FP32_S, int8_s, ALL_OF_FP32_S, 0.0, int8_s], abs=1e-9)


def test_what_never_fits_is_refused() -> None:
    """Live as here it says `overload`."""
    tiny = with_tier(calm(1), "edge", model_memory_bytes=WEIGHTS_BYTES)
    (outcome,) = play_with(tiny, EDGE_ONLY).outcomes
    assert outcome.status == "overload"


def test_a_cold_edge_fetches_over_the_wan() -> None:
    """By hand, with a file's parts each asked for when the one before has come:

    graph, first part of weights      asked for at once; the cloud's link has one behind the other
    second and third part             a delay there, its bytes, a delay back
    then                              storing, loading
    """
    scenario = calm(2)
    cold = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, distribute=True))
    outcomes = play_with(cold, EDGE_ONLY, EDGE_ONLY).outcomes
    assert WEIGHTS_BYTES - 2 * CHUNK_BYTES > 0
    fetch_s = 3 * 2 * DELAY_S + (GRAPH_BYTES + WEIGHTS_BYTES) / RATE_BYTES_PER_S
    first_s, second_s = edge_loads_s(outcomes)
    assert first_s == pytest.approx(fetch_s + 0.002 + ALL_OF_FP32_S, abs=0.005)  # four headers beside
    assert first_s >= fetch_s + 0.002 + ALL_OF_FP32_S
    assert second_s == 0
    assert outcomes[0].breakdown.load_s == (0.0, first_s, 0.0)


def test_a_cold_device_fetches_through_the_edge() -> None:
    """The edge fetches from the cloud what it does not have either, and what it then has it need not fetch for itself."""
    scenario = calm(2)
    cold = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, distribute=True))
    device = Decision(model="digits-cnn", variant="int8", cuts=(7, 7), exit=2)
    outcomes = play_with(cold, device, INT8).outcomes
    through_s, load_s = outcomes[0].breakdown.load_s[0], ALL_OF_FP32_S / 2
    assert through_s > 4 * DELAY_S + 2 * 0.002 + load_s
    assert edge_loads_s(outcomes) == pytest.approx([0.0, load_s], abs=1e-9)


def test_every_episode_begins_with_nothing_loaded() -> None:
    """So the same seed gives the same episode."""
    late = with_tier(calm(1), "edge", model_memory_bytes=10_000_000)
    first, second = (play_with(late, EDGE_ONLY).outcomes for _ in range(2))
    assert first == second


def test_a_profile_without_it_is_refused() -> None:
    """Nothing is made up about what loading takes."""
    late = with_tier(calm(1), "edge", model_memory_bytes=10_000_000)
    with pytest.raises(InvalidProfile, match="measure it again"):
        Scene(late, make_profile(late), "validation")
