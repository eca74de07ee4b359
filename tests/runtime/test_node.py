"""The shell of a node, in this process: what would end its loop, and what it holds back when an episode begins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from runtime.codec import from_frames, to_frames
from runtime.errors import InvalidConfig
from runtime.messages import Decision, EpisodeStarted, Message, NodeTelemetry, Ping, Pong, StartEpisode, Submit, Work
from runtime.node import Node, NodeConfig
from runtime.rates import ConstantRate, TraceRate
from runtime.session import Session
from runtime.topology import LinkConfig, Topology
from runtime.transport import Context, Router
from tests.runtime.live_helpers import wait_until

DEADLINE_S = 5.0
NOWHERE = TraceRate(path="/nowhere/trace.jsonl")


def config(model: Path, topology: Topology | None = None, **more: str) -> NodeConfig:
    return NodeConfig(name="device", tier="device", model_dirs=(str(model),), preload=False, topology=topology or Topology(), **more)  # type: ignore[arg-type]


@contextmanager
def serving(config: NodeConfig) -> Iterator[Node]:
    """A node in a thread of its own."""
    with Node(config) as node:
        thread = threading.Thread(target=node.run, name="node")
        thread.start()
        try:
            yield node
        finally:
            node.stop()
            thread.join()


@pytest.fixture
def outside(context: Context) -> Iterator[Router]:
    """Whoever the node is connected to."""
    router = context.router()
    yield router
    router.close()


def hear(router: Router, kind: type[Message]) -> tuple[bytes, Message]:
    """The next message of a kind, and whose it is."""
    heard: list[tuple[bytes, Message]] = []

    def come() -> bool:
        received = router.recv()
        if received is not None:
            heard.append((received[0], from_frames(received[1])[0]))
        return bool(heard) and isinstance(heard[-1][1], kind)

    wait_until(come, f"a {kind.__name__}")
    return heard[-1]


def begin(session: Session, controller: str) -> None:
    session.send(StartEpisode(seed=1, starts_in_s=0.0, controller=controller))
    received = session.receive(DEADLINE_S)
    assert received is not None
    assert isinstance(received[0], EpisodeStarted)


def test_an_address_that_is_none_leaves_the_device_without_a_controller(digits_model: Path, images: np.ndarray, context: Context) -> None:
    """An episode names the controller: whatever it says, the device goes on, counts it, and falls back."""
    with serving(config(digits_model)) as node, Session(context, node.address) as session:
        begin(session, "garbage")
        outcome = session.infer("digits-cnn", images[0], DEADLINE_S)
        assert (outcome.status, outcome.decided_by) == ("ok", "fallback")
        assert session.status().counters["malformed"] == 1


def test_a_closed_socket_has_no_messages(context: Context, outside: Router) -> None:
    """A poll may have named it before it was closed: an episode with another controller begins while the old one's answer waits."""
    dealer = context.dealer(outside.address)
    dealer.close()
    assert dealer.recv() is None


def test_an_episode_begins_with_empty_links(digits_model: Path, images: np.ndarray, context: Context, outside: Router) -> None:
    """Work that an emulated link still holds back is never sent once the next episode has begun."""
    uplink = LinkConfig(rate=ConstantRate(bytes_per_s=20e3))
    device = config(digits_model, Topology(uplink=uplink, peer_timeout_s=60.0), upstream=outside.address)
    with serving(device) as node, Session(context, node.address) as session:
        peer, ping = hear(outside, Ping)
        assert isinstance(ping, Ping)
        outside.send(peer, to_frames(Pong(sequence=ping.sequence, nodes=(NodeTelemetry(tier="edge"),))))
        wait_until(lambda: len(session.status().telemetry) == 2, "the device to know its edge")
        given = Decision(model="digits-cnn", variant="fp32", cuts=(0, 0), exit=2)
        for request_id in range(4):  # a fifth of a second each
            session.send(Submit(request_id=request_id, model="digits-cnn", deadline_s=DEADLINE_S, decision=given), images[0])
        session.send(StartEpisode(seed=2, starts_in_s=0.0))
        session.send(Submit(request_id=9, model="digits-cnn", deadline_s=DEADLINE_S, decision=given), images[0])
        hear(outside, StartEpisode)
        _, work = hear(outside, Work)
        assert isinstance(work, Work)
        assert work.request_id == 9


@pytest.mark.parametrize(
    ("tier", "link"),
    [("device", {"uplink": LinkConfig(rate=NOWHERE)}), ("edge", {"uplink": LinkConfig(down_rate=NOWHERE)})],
)
def test_a_trace_that_cannot_be_read_is_said_before_serving(digits_model: Path, tier: str, link: dict[str, LinkConfig]) -> None:
    """Upwards and downwards: not when the first payload is sent, nor when the first node below is heard of."""
    node = NodeConfig(
        name=tier,
        tier=tier,  # type: ignore[arg-type]
        model_dirs=(str(digits_model),),
        preload=False,
        upstream="tcp://127.0.0.1:9",
        topology=Topology(**link),  # type: ignore[arg-type]
    )
    with pytest.raises(InvalidConfig, match="nowhere"):
        Node(node)


def test_a_first_controller_that_is_no_address_is_said_before_serving(digits_model: Path) -> None:
    """The one in the configuration is its writer's fault; no thread or socket is left."""
    with pytest.raises(InvalidConfig, match="garbage"):
        Node(config(digits_model, controller="garbage"))
    assert not [thread for thread in threading.enumerate() if thread.name in {"compute", "delay-line"}]
