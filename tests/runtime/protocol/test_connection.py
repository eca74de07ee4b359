"""What a node knows of what it gave to a link, and when it stops waiting for word of it."""

from __future__ import annotations

import pytest

from runtime.codec import from_frames
from runtime.codecs.parcel import pack
from runtime.links import EmulatedLink
from runtime.messages import Ping, Pong
from runtime.protocol.connection import PROBE_AFTER_S, Connection
from runtime.protocol.events import Send
from runtime.rates import ConstantRate
from tests.runtime.protocol_helpers import features, work

TIMEOUT_S = 1.0


def connection(link: EmulatedLink | None = None) -> Connection:
    return Connection(link, period_s=0.1, timeout_s=TIMEOUT_S)


def give(up: Connection, request_id: int, at_s: float) -> int:
    """Work with a tensor is sent; its bytes."""
    return up.payload(request_id, work(request_id, at_s, (0, 3), 0).message, pack([features()]), at_s)[1]


def probes(sends: list[Send]) -> list[Ping]:
    read = [from_frames(send.frames) for send in sends]
    return [message for message, tensors in read if isinstance(message, Ping) and tensors]


def test_a_transfer_over_an_emulated_link_is_given_up_a_timeout_after_its_landing() -> None:
    """At 1000 B/s it lands when its bytes have been sent and 0.1 s have passed; the acknowledgement may take TIMEOUT_S more."""
    up = connection(EmulatedLink(ConstantRate(bytes_per_s=1000.0), 0.1, 0.0, "uplink", "up"))
    num_bytes = give(up, 7, 1.0)
    lands_at_s = 1.0 + num_bytes / 1000.0 + 0.1
    up.tick(lands_at_s + TIMEOUT_S - 0.01)
    assert up.outstanding_bytes == num_bytes
    up.tick(lands_at_s + TIMEOUT_S + 0.11)
    assert (up.outstanding_bytes, up.unacknowledged_bytes(7)) == (0, 0)


def test_a_transfer_over_a_real_link_may_wait_for_those_before_it() -> None:
    """Two of the same size at once; the first takes 0.9 s, so the second is not lost before 1.8 s and TIMEOUT_S have passed."""
    up = connection()
    num_bytes = give(up, 1, 0.0)
    assert give(up, 2, 0.0) == num_bytes
    up.on_ack(1, 0.9)
    up.tick(1.8 + TIMEOUT_S - 0.01)
    assert up.outstanding_bytes == num_bytes
    up.tick(1.8 + TIMEOUT_S + 0.11)
    assert up.outstanding_bytes == 0


def test_a_lost_transfer_does_not_end_probing() -> None:
    """A message that was lost in a short break is no reason never to measure the link again."""
    up, at_s = connection(), 1.0
    give(up, 7, at_s)
    sent: list[Ping] = []
    while not sent:
        at_s += 0.1
        assert at_s < 2 * PROBE_AFTER_S, "no probe is sent"
        up.heard(at_s)
        sent = probes(up.tick(at_s))
    assert at_s > 1.0 + TIMEOUT_S


def test_an_acknowledgement_in_time_measures_the_link() -> None:
    """What is not lost is measured as ever: here 0.5 s on the way."""
    up = connection()
    num_bytes = give(up, 7, 1.0)
    up.tick(1.4)
    up.on_ack(7, 1.5)
    assert up.estimator.rate_bytes_per_s == pytest.approx(num_bytes / 0.5)
    assert up.outstanding_bytes == 0


def test_a_delay_longer_than_the_timeout_is_measured() -> None:
    """Links may take 10 s each way while a peer counts as lost after 1 s of silence: pings come back all the same."""
    up = connection()
    (first,) = up.tick(1.0)
    for tenth in range(1, 12):
        up.tick(1.0 + tenth / 10)
    message, _ = from_frames(first.frames)
    assert isinstance(message, Ping)
    assert not up.on_pong(Pong(sequence=message.sequence, nodes=()), 2.2), "it answers a ping, no probe"
    assert up.estimator.delay_s == pytest.approx(0.6)
