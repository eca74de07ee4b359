"""Several edges, simulated by their own code."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.scenario import Scenario
from runtime.inference.cache import CacheConfig
from runtime.messages import Outcome
from runtime.protocol.handover import HandoverConfig
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig
from tests.envs.simulation.events.plays import EDGE_ONLY, play_alike, steady
from tests.envs.simulation.events.test_sharing import alone_s, wide

NEIGHBOUR = LinkConfig(rate=ConstantRate(bytes_per_s=20e6), down_rate=ConstantRate(bytes_per_s=20e6), delay_s=0.002)


def flooded(num_edges: int, margin_s: float = 0.005) -> Scenario:
    """The device's edge has more to do than it can; beside it others have nothing."""
    scenario = wide(steady(0.3 / alone_s(), neighbours_per_s=0.9 / alone_s()))
    handover = HandoverConfig(margin_s=margin_s) if num_edges > 1 else None
    edge = msgspec.structs.replace(scenario.topology.edge, handover=handover)
    topology = msgspec.structs.replace(scenario.topology, edge=edge, num_edges=num_edges, neighbour=NEIGHBOUR)
    return msgspec.structs.replace(scenario, topology=topology)


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """With one neighbour."""
    return play_alike(flooded(2), EDGE_ONLY)


def test_an_edge_that_has_too_much_hands_over(outcomes: list[Outcome]) -> None:
    """Some is done by the neighbour, some here, and requests come back sooner than from an edge alone."""
    handed = [outcome for outcome in outcomes if outcome.handed_over]
    assert 0.05 < len(handed) / len(outcomes) < 0.95
    alone, helped = (np.median([outcome.latency_s for outcome in each]) for each in (play_alike(flooded(1), EDGE_ONLY), outcomes))
    assert helped < 0.6 * alone


def test_the_way_sideways_shows(outcomes: list[Outcome]) -> None:
    """Two delays and the payload at least, in a part of its own; parts sum to the whole, and the edges' bytes are counted."""
    for outcome in outcomes:
        assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s, abs=1e-9)
        if outcome.handed_over:
            assert outcome.breakdown.handover_s >= 2 * NEIGHBOUR.delay_s + outcome.handover_bytes[0] / 20e6
            assert outcome.breakdown.compute_s[1] == pytest.approx(alone_s())
            assert min(outcome.handover_bytes) > 0
        else:
            assert outcome.handover_bytes == (0, 0) or outcome.breakdown.handover_s > 0


def test_a_margin_keeps_work_at_home() -> None:
    """Nothing is handed over that would have to be a minute sooner elsewhere."""
    assert not any(outcome.handed_over for outcome in play_alike(flooded(2, margin_s=60.0), EDGE_ONLY))


def test_each_edge_remembers_for_itself() -> None:
    """With caches the device's edge answers what it knows, whoever computed it."""
    scenario = flooded(3)
    topology = msgspec.structs.replace(scenario.topology, edge=msgspec.structs.replace(scenario.topology.edge, cache=CacheConfig()))
    inputs = msgspec.structs.replace(scenario.workload.inputs, zipf_exponent=3.0)
    workload = msgspec.structs.replace(scenario.workload, inputs=inputs)
    popular = play_alike(msgspec.structs.replace(scenario, topology=topology, workload=workload), EDGE_ONLY)
    known = [outcome for outcome in popular if outcome.reused == "cache-exact"]
    assert len(known) > 20
    assert all(outcome.reused_at == "edge" for outcome in known)
