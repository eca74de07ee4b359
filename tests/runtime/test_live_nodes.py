"""Real processes, real sockets: what users send, what breaks, and what is left afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import zmq

from runtime.codec import MAX_FRAMES, to_frames
from runtime.errors import InvalidInput, PeerLost, SystemFailure
from runtime.inference.engine import Engine
from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import Ack, Decision, Failure, Result, Submit, Work
from runtime.session import Session
from runtime.topology import Topology
from runtime.transport import Context
from tests.runtime.live_helpers import wait_for_all_tiers, wait_until

TOPOLOGY = Topology(telemetry_period_s=0.05, peer_timeout_s=0.4)
SLACK_S = 0.5
"""What a loaded test machine may add to a deadline; typical is a few milliseconds."""


@pytest.fixture(scope="module")
def nodes(digits_model: Path) -> Iterator[RunningNodes]:
    with launch_nodes(TOPOLOGY, digits_model) as running:
        yield running


@pytest.fixture
def session(nodes: RunningNodes, context: Context) -> Iterator[Session]:
    with Session(context, nodes.device_address) as session:
        wait_for_all_tiers(session)
        yield session


def decision(cuts: tuple[int, int], exit: int = 2, variant: str = "fp32") -> Decision:
    return Decision(model="digits-cnn", variant=variant, cuts=cuts, exit=exit)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
@pytest.mark.parametrize("cuts", [(7, 7), (0, 7), (0, 0), (3, 7), (0, 4), (2, 2), (2, 5), (5, 6)])
def test_every_architecture_gives_the_models_answer(
    session: Session, digits_model: Path, images: np.ndarray, variant: str, cuts: tuple[int, int]
) -> None:
    """Wherever it is cut, the live system's class is the whole model's, and its parts sum to its latency."""
    (logits,) = Engine(digits_model).run(variant, 0, 7, 2, [images[0]])
    outcome = session.infer("digits-cnn", images[0], 5.0, decision(cuts, variant=variant))
    assert outcome.status == "ok", outcome.message
    assert outcome.prediction == int(logits.argmax())
    assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s, abs=1e-9)
    assert (outcome.link_bytes[0] > 0) == (cuts[0] < 7)
    assert (outcome.link_bytes[1] > 0) == (cuts[1] < 7)


def test_without_a_controller_the_fallback_serves(session: Session, images: np.ndarray) -> None:
    """A bare runtime decides device-only, and says that a fallback did."""
    outcome = session.infer("digits-cnn", images[0], 5.0)
    assert (outcome.status, outcome.decided_by) == ("ok", "fallback")
    assert outcome.decision == decision((7, 7))


@pytest.mark.parametrize(
    ("model", "shape", "dtype", "given", "words"),
    [
        ("digits-cnn", (1, 1, 32, 32), "uint8", None, "carries uint8[1, 1, 64, 64]"),
        ("digits-cnn", (1, 1, 64, 64), "float32", None, "got float32"),
        ("no-such-model", (1, 1, 64, 64), "uint8", None, "not loaded here"),
        ("digits-cnn", (1, 1, 64, 64), "uint8", decision((0, 0), variant="fp8"), "'fp8'"),
        ("digits-cnn", (1, 1, 64, 64), "uint8", decision((2, 6), exit=0), "go past exit 0"),
        ("digits-cnn", (1, 1, 64, 64), "uint8", decision((2, 6), exit=9), "exit 9"),
    ],
)
def test_bad_input_is_one_clear_error_and_the_node_goes_on(
    session: Session, images: np.ndarray, model: str, shape: tuple[int, ...], dtype: str, given: Decision | None, words: str
) -> None:
    """The wrong shape, dtype, model, variant, cuts or exit: bad_input in words, and the next request is served."""
    outcome = session.infer(model, np.zeros(shape, dtype), 2.0, given)
    assert outcome.status == "bad_input"
    assert words in outcome.message
    assert session.infer("digits-cnn", images[0], 5.0, decision((0, 7))).status == "ok"


def test_nan_activations_are_refused(nodes: RunningNodes, context: Context, digits_model: Path) -> None:
    """A peer that sends NaN gets bad_input; the edge goes on."""
    engine = Engine(digits_model)
    (spec,) = engine.manifest.variants["fp32"].cuts[3]
    tensor = np.full(spec.shape, np.nan, dtype=np.float32)
    with Session(context, nodes.edge_address) as edge:
        for value, kind in ((tensor, Failure), (np.zeros_like(tensor), Result)):
            edge.send(Work(request_id=1, decision=decision((3, 7)), stage=3, budget_s=5.0), value)
            answers = [edge.receive(5.0), edge.receive(5.0)]
            assert isinstance(answers[0][0], Ack)  # type: ignore[index]
            answer = answers[1][0]  # type: ignore[index]
            assert isinstance(answer, kind)
            if isinstance(answer, Failure):
                assert answer.status == "bad_input"
                assert "NaN" in answer.message


GOOD_HEADER = bytes(to_frames(Submit(request_id=1, model="digits-cnn", deadline_s=1.0))[0])


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"garbage that is no header"],
        [GOOD_HEADER[:-3]],
        [GOOD_HEADER, b"a frame that was not announced"],
        [b"x"] * (MAX_FRAMES + 5),
        [b"drl2" + bytes(200_000)],
        [GOOD_HEADER.replace(b"digits-cnn", b"\xff\xfe\xfd\xfc\xfb\xff\xfe\xfd\xfc\xfb")],
    ],
    ids=["empty", "garbage", "truncated", "extra-frame", "many-frames", "oversized-header", "bad-utf8"],
)
@pytest.mark.parametrize("tier", ["device", "edge", "cloud"])
def test_bytes_that_are_no_message_do_no_harm(
    nodes: RunningNodes, context: Context, session: Session, images: np.ndarray, tier: str, frames: list[bytes]
) -> None:
    """Each tier counts what it could not read and goes on serving."""
    raw = zmq.Context()
    with Session(context, nodes.addresses[tier]) as target:  # type: ignore[index]
        before = target.status().counters.get("malformed", 0)
        with raw.socket(zmq.DEALER) as socket:
            socket.linger = 1000
            socket.connect(nodes.addresses[tier])  # type: ignore[index]
            socket.send_multipart(frames)
            wait_until(lambda: target.status().counters.get("malformed", 0) == before + 1, "the message to be counted")
    raw.term()
    assert session.infer("digits-cnn", images[0], 5.0, decision((2, 5))).status == "ok"


def test_an_impossible_measurement_is_refused(session: Session) -> None:
    """Asking for the time of stages that do not exist is an error of the asker."""
    with pytest.raises(InvalidInput, match="do not exist"):
        session.measure("digits-cnn", "fp32", 5, 99, None, 3)
    assert len(session.measure("digits-cnn", "fp32", 5, 6, None, 3).tier_s) == 3


def test_a_deadline_too_short_is_told_in_time(session: Session, images: np.ndarray) -> None:
    """A request that cannot make it ends with `deadline`, not late."""
    start_s = time.perf_counter()
    outcome = session.infer("digits-cnn", images[0], 1e-4, decision((2, 5)))
    assert outcome.status == "deadline"
    assert time.perf_counter() - start_s < SLACK_S


def test_a_frozen_edge_fails_requests_in_time_and_heals(nodes: RunningNodes, session: Session, images: np.ndarray) -> None:
    """SIGSTOP: requests end as peer_lost or deadline in time, device-only goes on, SIGCONT heals without a restart."""
    edge = nodes.processes["edge"]
    edge.signal(signal.SIGSTOP)
    try:
        start_s = time.perf_counter()
        outcome = session.infer("digits-cnn", images[0], 1.0, decision((0, 7)))
        assert outcome.status in ("peer_lost", "deadline")
        assert time.perf_counter() - start_s < 1.0 + SLACK_S
        assert session.infer("digits-cnn", images[0], 5.0, decision((7, 7))).status == "ok"
        wait_until(lambda: len(session.status().telemetry) == 1, "the device to notice")
        at_once = session.infer("digits-cnn", images[0], 5.0, decision((0, 7)))
        assert at_once.status == "peer_lost"
        assert at_once.latency_s < SLACK_S
    finally:
        edge.signal(signal.SIGCONT)
    wait_until(lambda: session.infer("digits-cnn", images[0], 2.0, decision((2, 5))).status == "ok", "the edge to serve again")


@pytest.mark.parametrize("victim", ["edge", "cloud"])
def test_a_killed_node_leaves_the_rest_serving(digits_model: Path, images: np.ndarray, victim: str) -> None:
    """kill -9 amid requests: every one is answered, what does not need the victim goes on, and check() names it."""
    with launch_nodes(TOPOLOGY, digits_model) as running, Context() as context, Session(context, running.device_address) as session:
        wait_for_all_tiers(session)
        process = running.processes[victim]
        for request_id in range(20):
            session.send(Submit(request_id=request_id, model="digits-cnn", deadline_s=2.0, decision=decision((2, 5))), images[request_id])
            if request_id == 10:
                os.kill(process.pid, signal.SIGKILL)
        answered = set()
        until_s = time.perf_counter() + 2.0 + SLACK_S
        while len(answered) < 20 and time.perf_counter() < until_s:
            received = session.receive(0.1)
            if received is not None:
                answered.add(received[0].request_id)  # type: ignore[union-attr]
        assert len(answered) == 20
        assert session.infer("digits-cnn", images[0], 5.0, decision((7, 7))).status == "ok"
        if victim == "cloud":
            assert session.infer("digits-cnn", images[0], 5.0, decision((0, 7))).status == "ok"
        wait_until(lambda: not process.alive, "the victim to be gone")
        with pytest.raises(SystemFailure, match=f"{victim} node ended by signal 9"):
            running.check()


def test_nobody_there_is_peer_lost(context: Context) -> None:
    """An address where no node listens gives one typed error, in time."""
    with Session(context, "tcp://127.0.0.1:9") as nobody, pytest.raises(PeerLost, match="is the node running"):
        nobody.status(timeout_s=0.2)


def test_leaving_by_exception_leaves_no_process(digits_model: Path) -> None:
    """The with block ends every node, whatever happened inside."""
    pids: list[int] = []

    def fail_amid() -> None:
        with launch_nodes(TOPOLOGY, digits_model, preload=False) as running:
            pids.extend(running.pids.values())
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        fail_amid()
    assert len(pids) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_node_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    """A missing model ends in SystemFailure with the node's own words, and nothing is left running."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(SystemFailure, match="no model in"):
        launch_nodes(TOPOLOGY, tmp_path)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_node_told_to_stop_exits_cleanly(digits_model: Path) -> None:
    """SIGTERM and Ctrl-C end a node of any tier with exit code 0."""
    with launch_nodes(TOPOLOGY, digits_model) as running:
        for tier, number in (("device", signal.SIGTERM), ("edge", signal.SIGINT), ("cloud", signal.SIGTERM)):
            process = running.processes[tier]
            process.signal(number)
            wait_until(lambda process=process: not process.alive, f"the {tier} to end")  # type: ignore[misc]
            assert process.stop() == 0


LAUNCHER = """
import sys, time
from pathlib import Path
from runtime.launch import launch_nodes
from runtime.topology import Topology
nodes = launch_nodes(Topology(), Path(sys.argv[1]), preload=False)
print(*nodes.pids.values(), flush=True)
sys.stdin.read()
"""


def test_nodes_end_when_their_launcher_is_killed(digits_model: Path) -> None:
    """kill -9 of the parent: its nodes notice and go."""
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(digits_model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert launcher.stdout is not None
    assert launcher.stdin is not None
    pids = [int(word) for word in launcher.stdout.readline().split()]
    assert len(pids) == 3
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    launcher.stdin.close()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "the nodes to end")
