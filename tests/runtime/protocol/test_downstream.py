"""Whom a node knows below it, and for how long."""

from __future__ import annotations

from runtime.codecs.parcel import pack
from runtime.links import EmulatedLink
from runtime.messages import Ack, Failure, ManifestFound, Pong, Result, Span
from runtime.protocol.downstream import FORGOTTEN_AFTER_S, Downstream
from runtime.rates import ConstantRate
from tests.runtime.protocol_helpers import LOGITS


def emulated() -> Downstream:
    """Links of 1 MB/s; to neighbours of 2 MB/s."""

    def make(bytes_per_s: float) -> EmulatedLink:
        return EmulatedLink(ConstantRate(bytes_per_s=bytes_per_s), 0.01, 0.0, "uplink", "down")

    return Downstream(lambda: make(1e6), lambda: make(2e6))


def test_who_pings_has_one_link_and_who_does_not_has_none() -> None:
    """A node is known by its pings; clients are answered over links that are not ours."""
    down = emulated()
    down.is_node(b"device", 1.0)
    down.is_node(b"edge-1", 1.0, beside=True)
    link = down.link_to(b"device")
    down.is_node(b"device", 2.0)
    assert link is not None
    assert down.link_to(b"device") is link
    assert (down.is_beside(b"device"), down.is_beside(b"edge-1"), down.is_beside(b"client")) == (False, True, False)
    assert down.link_to(b"client") is None


def test_ids_that_no_longer_ping_are_forgotten() -> None:
    """Each reconnection is a new id: the old ones do not add up, and who goes on pinging keeps its link."""
    down = emulated()
    down.is_node(b"steady", 0.0)
    steady = down.link_to(b"steady")
    for count in range(1, 11):
        at_s = count * FORGOTTEN_AFTER_S / 2
        down.is_node(b"steady", at_s)
        down.is_node(b"reconnected-%d" % count, at_s)
    assert [count for count in range(1, 11) if down.link_to(b"reconnected-%d" % count) is not None] == [9, 10]
    assert down.link_to(b"steady") is steady


def test_what_is_said_of_requests_is_marked() -> None:
    """It ends with its episode; telemetry and what model files and training jobs need does not."""
    down = emulated()
    down.is_node(b"device", 1.0)
    about = [Ack(request_id=1), Failure(request_id=1, status="internal", message="")]
    assert all(down.control(b"device", message, 1.0).of_request for message in about)
    assert down.payload(b"device", 1, Result(request_id=1, exit=0, spans=(Span(),)), pack([LOGITS]), 1.0)[0].of_request
    others = [Pong(sequence=1, nodes=()), ManifestFound(model="tiny", sha256="0" * 64, num_bytes=1)]
    assert not any(down.control(b"device", message, 1.0).of_request for message in others)
