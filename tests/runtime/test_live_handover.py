"""Two real edges: what the overloaded one hands to the other, what comes back, and what happens when the other dies."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.launch import RunningNodes, launch_node, launch_nodes
from runtime.messages import Decision, Failure, Outcome, Result, Submit, Work
from runtime.node import NodeConfig
from runtime.protocol.handover import HandoverConfig
from runtime.session import Session
from runtime.topology import LinkConfig, TierConfig, Topology
from runtime.transport import Context
from tests.runtime.live_helpers import wait_for_all_tiers, wait_until

pytestmark = pytest.mark.slow

JOB_S = 0.04
"""EMULATED: what the whole model takes an edge."""
DELAY_S = 0.002
"""EMULATED: from edge to edge, one way."""
WAIT_S = 30.0
WHOLE = Decision(model="digits-cnn", variant="fp32", cuts=(0, 7), exit=2)
THREE_TIERS = Decision(model="digits-cnn", variant="fp32", cuts=(2, 5), exit=2)
ALONE = Topology(
    edge=TierConfig(full_model_s=JOB_S),
    neighbour=LinkConfig(delay_s=DELAY_S),
    telemetry_period_s=0.05,
    peer_timeout_s=0.4,
    max_in_flight=64,
)
TOGETHER = Topology(
    edge=TierConfig(full_model_s=JOB_S, handover=HandoverConfig()),
    num_edges=2,
    neighbour=LinkConfig(delay_s=DELAY_S),
    telemetry_period_s=0.05,
    peer_timeout_s=0.4,
    max_in_flight=64,
)


@pytest.fixture(scope="module")
def nodes(digits_model: Path) -> Iterator[RunningNodes]:
    with launch_nodes(TOGETHER, digits_model) as running:
        yield running


@pytest.fixture
def edge(nodes: RunningNodes, context: Context) -> Iterator[Session]:
    """A client of the first edge, which knows an idle second one."""
    with Session(context, nodes.edge_address) as session:
        wait_until(lambda: [round(node.backlog_s, 3) for node in session.status().neighbours] == [0.0], "an idle neighbour")
        yield session


def give(session: Session, request_ids: range, image: np.ndarray, budget_s: float = WAIT_S) -> None:
    """A burst of work for an edge."""
    for request_id in request_ids:
        session.send(Work(request_id=request_id, decision=WHOLE, stage=0, budget_s=budget_s), image)


def ends(session: Session, number: int) -> list[Result | Failure]:
    """The next so many ends of requests."""
    until_s, found = time.perf_counter() + WAIT_S, []
    while len(found) < number:
        received = session.receive(1.0)
        assert time.perf_counter() < until_s, f"{len(found)} of {number} ends within {WAIT_S} s"
        if received is not None and isinstance(received[0], Result | Failure):
            found.append(received[0])
    return found


def counters(session: Session) -> Counter[str]:
    return Counter(session.status().counters)


def test_a_request_computed_next_door_says_so_and_its_parts_tile_its_latency(
    nodes: RunningNodes, edge: Session, context: Context, images: np.ndarray
) -> None:
    """Through the device and on to the cloud, in a burst: all answered, some by the other edge, which took them upwards itself."""
    with Session(context, nodes.device_address) as device:
        wait_for_all_tiers(device)
        for request_id in range(24):
            device.send(Submit(request_id=request_id, model="digits-cnn", deadline_s=WAIT_S, decision=THREE_TIERS), images[request_id])
        outcomes = [received[0] for received in (device.receive(WAIT_S) for _ in range(24)) if received is not None]
    handed = [outcome for outcome in outcomes if isinstance(outcome, Outcome) and outcome.handed_over]
    assert len(outcomes) == 24
    assert handed
    for outcome in outcomes:
        assert isinstance(outcome, Outcome)
        assert outcome.status == "ok", outcome.message
        assert math.isclose(outcome.breakdown.total_s(), outcome.latency_s, abs_tol=1e-9)
        assert min(outcome.breakdown.compute_s) > 0
        assert outcome.link_bytes[1] > 0
    assert min(min(outcome.handover_bytes) for outcome in handed) > 0
    assert min(outcome.breakdown.handover_s for outcome in handed) >= 2 * DELAY_S


def test_an_overloaded_edge_hands_work_to_its_neighbour(edge: Session, images: np.ndarray) -> None:
    """Fifty jobs at once with time for thirty on one emulated worker: some are done next door, and every one ends."""
    before = counters(edge)
    give(edge, range(100, 150), images[0], 30 * JOB_S)
    ended = ends(edge, 50)
    answered = [end for end in ended if isinstance(end, Result)]
    assert {end.status for end in ended if isinstance(end, Failure)} <= {"deadline"}
    handed = counters(edge)["handovers_answered"] - before["handovers_answered"]
    assert handed == sum(end.spans[0].handed_over for end in answered) >= 1


def test_a_loaded_neighbour_is_given_nothing(nodes: RunningNodes, edge: Session, context: Context, images: np.ndarray) -> None:
    """More than two seconds of work that it may not hand on wait there: ten jobs here stay here."""
    before = counters(edge)
    with Session(context, nodes.addresses["edge-1"]) as neighbour:
        for request_id in range(200, 260):
            work = Work(request_id=request_id, decision=WHOLE, stage=0, budget_s=1.5, handed_over=True)
            neighbour.send(work, images[0])
        wait_until(lambda: any(node.backlog_s > 50 * JOB_S for node in edge.status().neighbours), "its report")
        give(edge, range(300, 310), images[0])
        assert counters(edge)["handed_over"] == before["handed_over"]
        assert all(isinstance(end, Result) for end in ends(edge, 10))
        assert len(ends(neighbour, 60)) == 60


def test_a_frozen_neighbours_work_is_taken_back_and_its_late_answers_are_ignored(
    nodes: RunningNodes, edge: Session, images: np.ndarray
) -> None:
    """SIGSTOP amid a burst: everything is answered once, here; what it says after SIGCONT is counted, and it is given work again."""
    give(edge, range(400, 430), images[0])
    wait_until(lambda: counters(edge)["handed_over"] > counters(edge)["handovers_answered"], "a hand-over")
    nodes.processes["edge-1"].signal(signal.SIGSTOP)
    try:
        ended = ends(edge, 30)
        assert sorted(end.request_id for end in ended) == list(range(400, 430))
        assert all(isinstance(end, Result) for end in ended)
        assert counters(edge)["taken_back"] > 0
    finally:
        nodes.processes["edge-1"].signal(signal.SIGCONT)
    wait_until(lambda: counters(edge)["late_handovers"] > 0, "a late answer")
    wait_until(lambda: bool(edge.status().neighbours), "the neighbour to be heard of again")


def test_a_killed_neighbour_costs_nobody_an_answer(digits_model: Path, tmp_path: Path, context: Context, images: np.ndarray) -> None:
    """kill -9 amid a burst: whatever it had is done here, and the edge goes on alone."""
    config = NodeConfig(name="edge-1", tier="edge", model_dirs=(str(digits_model),), topology=TOGETHER, exit_with_parent=True)
    victim = launch_node(config, tmp_path)
    neighbours = (str(victim.ready["address"]),)
    survivor = launch_node(
        NodeConfig(
            name="edge", tier="edge", model_dirs=(str(digits_model),), neighbours=neighbours, topology=TOGETHER, exit_with_parent=True
        ),
        tmp_path,
    )
    try:
        address = str(survivor.ready["address"])
        with Session(context, address) as session, Session(context, address) as watch:  # who asks drops what he did not ask for
            wait_until(lambda: bool(watch.status().neighbours), "the edges to know each other")
            give(session, range(40), images[0])
            wait_until(lambda: counters(watch)["handed_over"] > 0, "a hand-over")
            os.kill(victim.pid, signal.SIGKILL)
            ended = ends(session, 40)
            assert sorted(end.request_id for end in ended) == list(range(40))
            assert all(isinstance(end, Result) for end in ended)
            assert counters(watch)["taken_back"] > 0
            give(session, range(50, 60), images[0])
            assert all(isinstance(end, Result) for end in ends(session, 10))
            assert watch.status().neighbours == ()
        survivor.check()
    finally:
        survivor.stop()
        victim.stop()
