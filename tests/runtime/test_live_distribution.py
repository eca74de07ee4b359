"""Real processes: the cloud has the model's folder, edge and device start with nothing and fetch what decisions need."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.inference.engine import Engine
from runtime.launch import Process, RunningNodes, launch_node, launch_nodes
from runtime.messages import Decision, Failure, Message, Result, Work
from runtime.models.pieces import pieces_of
from runtime.node import NodeConfig
from runtime.protocol.residency import Residency
from runtime.rates import ConstantRate
from runtime.session import Session
from runtime.topology import LinkConfig, TierConfig, Topology
from runtime.transport import Context
from tests.runtime.live_helpers import wait_for_all_tiers, wait_until

pytestmark = pytest.mark.slow

TOPOLOGY = Topology(telemetry_period_s=0.05, peer_timeout_s=0.5, distribute=True)
SLOW_WAN = LinkConfig(rate=ConstantRate(bytes_per_s=1e5), down_rate=ConstantRate(bytes_per_s=1e5))
"""A chunk takes two thirds of a second."""
SLACK_S = 0.5


@pytest.fixture(scope="module")
def nodes(digits_model: Path) -> Iterator[RunningNodes]:
    with launch_nodes(TOPOLOGY, digits_model) as running:
        yield running


@pytest.fixture(scope="module")
def engine(digits_model: Path) -> Engine:
    return Engine(digits_model)


def whole(variant: str) -> Decision:
    return Decision(model="digits-cnn", variant=variant, cuts=(0, 7), exit=2)


@contextlib.contextmanager
def edge_below(cloud: str, folder: Path, topology: Topology = TOPOLOGY, preload: bool | None = None) -> Iterator[tuple[Process, Session]]:
    """An edge that has nothing but its store in `folder`, and a connection to it."""
    config = NodeConfig(
        name="edge",
        tier="edge",
        models=("digits-cnn",),
        preload=preload,
        store_dir=str(folder / "store"),
        upstream=cloud,
        topology=topology,
        exit_with_parent=True,
    )
    process = launch_node(config, folder)
    try:
        with Context() as context, Session(context, str(process.ready["address"])) as session:
            wait_until(lambda: len(session.status().telemetry) == 2, "the edge to know the cloud")
            yield process, session
    finally:
        process.stop()


def ask(
    session: Session, request_id: int, tensor: np.ndarray, decision: Decision, budget_s: float = 10.0
) -> tuple[Message, list[np.ndarray]]:
    """Give the edge work; its answer behind the acknowledgement."""
    session.send(Work(request_id=request_id, decision=decision, stage=decision.cuts[0], budget_s=budget_s), tensor)
    while True:
        received = session.receive(budget_s + SLACK_S)
        assert received is not None, "no answer in time"
        if isinstance(received[0], Result | Failure):
            return received


def test_the_first_request_fetches_and_loads_and_the_second_does_not(nodes: RunningNodes, engine: Engine, images: np.ndarray) -> None:
    """Right both times; the wait shows at the tiers that computed without having the model, and telemetry has what is loaded."""
    decision = Decision(model="digits-cnn", variant="fp32", cuts=(2, 5), exit=2)
    (logits,) = engine.run("fp32", 0, 7, 2, [images[0]])
    with Context() as context, Session(context, nodes.device_address) as session:
        wait_for_all_tiers(session)
        first, second = (session.infer("digits-cnn", images[0], 10.0, decision) for _ in range(2))
        for outcome in (first, second):
            assert (outcome.status, outcome.prediction) == ("ok", int(logits.argmax())), outcome.message
            assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s, abs=1e-9)
        device_s, edge_s, cloud_s = first.breakdown.load_s
        assert min(device_s, edge_s) > 0
        assert cloud_s == 0
        assert second.breakdown.load_s == (0.0, 0.0, 0.0)
        wait_until(lambda: session.status().telemetry[1].loaded == ("digits-cnn/fp32",), "the edge's report to arrive")
        device, _, cloud = (node.loaded for node in session.status().telemetry)
        assert (device, cloud) == (("digits-cnn/fp32",), ("digits-cnn/fp32", "digits-cnn/int8"))


def test_a_node_may_fetch_and_load_everything_before_it_serves(
    nodes: RunningNodes, engine: Engine, images: np.ndarray, tmp_path: Path
) -> None:
    """With `preload` the first request waits for nothing."""
    (logits,) = engine.run("int8", 0, 7, 2, [images[0]])
    with edge_below(nodes.cloud_address, tmp_path, preload=True) as (_, session):
        answer, tensors = ask(session, 1, images[0], whole("int8"))
        assert isinstance(answer, Result)
        np.testing.assert_array_equal(tensors[0], logits)
        assert answer.spans[0].load_s == 0


def test_a_corrupted_store_file_is_found_out_and_fetched_again(
    nodes: RunningNodes, engine: Engine, images: np.ndarray, tmp_path: Path
) -> None:
    """A restarted edge finds its files on disk; those that were damaged meanwhile it fetches anew, and answers right."""
    (logits,) = engine.run("fp32", 0, 7, 2, [images[0]])
    fetched = []
    for round in range(3):
        with edge_below(nodes.cloud_address, tmp_path) as (_, session):
            answer, tensors = ask(session, 1, images[0], whole("fp32"))
            assert isinstance(answer, Result)
            np.testing.assert_array_equal(tensors[0], logits)
            fetched.append(session.status().counters.get("fetched_files", 0))
        if round == 1:
            for path in (tmp_path / "store").iterdir():
                path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert fetched[0] == fetched[2] > 0
    assert fetched[1] == 0


def test_variants_that_evict_each_other_still_answer_right(nodes: RunningNodes, engine: Engine, images: np.ndarray, tmp_path: Path) -> None:
    """Memory for one variant at a time: each change unloads the other, and each answer is its own variant's."""
    pieces = [pieces_of(engine.manifest, whole(variant), "edge") for variant in ("fp32", "int8")]
    budget = max(Residency([engine.manifest], None).needed_bytes(one) for one in pieces)
    topology = Topology(telemetry_period_s=0.05, peer_timeout_s=0.5, edge=TierConfig(model_memory_bytes=budget))
    with edge_below(nodes.cloud_address, tmp_path, topology) as (_, session):
        for request_id in range(6):
            variant = ("fp32", "int8")[request_id % 2]
            (logits,) = engine.run(variant, 0, 7, 2, [images[request_id]])
            answer, tensors = ask(session, request_id, images[request_id], whole(variant))
            assert isinstance(answer, Result)
            np.testing.assert_array_equal(tensors[0], logits)
            assert answer.spans[0].load_s > 0
        assert session.status().counters["evictions"] == 5


def test_an_upstream_killed_amid_a_fetch_ends_the_request_in_time(digits_model: Path, images: np.ndarray, tmp_path: Path) -> None:
    """Chunks come at the link's rate, a deadline ends the wait for them, and a dead cloud ends it as `peer_lost`."""
    topology = Topology(telemetry_period_s=0.05, peer_timeout_s=0.5, wan=SLOW_WAN)
    config = NodeConfig(
        name="cloud", tier="cloud", model_dirs=(str(digits_model),), preload=False, topology=topology, exit_with_parent=True
    )
    cloud = launch_node(config, tmp_path)
    try:
        with edge_below(str(cloud.ready["address"]), tmp_path, topology) as (edge, session):
            late, _ = ask(session, 1, images[0], whole("fp32"), budget_s=0.3)
            assert isinstance(late, Failure)
            assert late.status == "deadline"
            wait_until(lambda: session.status().counters.get("fetched_bytes", 0) > 0, "the first chunk")
            session.send(Work(request_id=2, decision=whole("fp32"), stage=0, budget_s=9.0), images[0])
            wait_until(lambda: session.status().counters["requests"] == 2, "the second request")
            cloud.signal(signal.SIGKILL)
            killed_at_s = time.perf_counter()
            lost, _ = next(received for received in iter(lambda: session.receive(5.0), None) if isinstance(received[0], Failure))
            assert isinstance(lost, Failure)
            assert lost.status == "peer_lost"
            assert time.perf_counter() - killed_at_s < topology.peer_timeout_s + SLACK_S
            assert edge.alive
    finally:
        cloud.stop()
