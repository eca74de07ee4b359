"""A node that takes our work, above us or beside: is it there, how is it, and how good is the link to it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from runtime.codec import num_bytes, seal, to_frames
from runtime.codecs.parcel import Parcel, pack
from runtime.links import EmulatedLink, LinkEstimator, Transfer
from runtime.messages import LinkView, Message, NodeTelemetry, Ping, Pong
from runtime.protocol.events import OF_REQUESTS, Send, Source

PROBE_BYTES = 4096
PROBE = pack([np.zeros(PROBE_BYTES, dtype=np.uint8)])
PROBE_AFTER_S = 5.0
"""A rate older than this is measured again with a probe, when nothing else is on its way."""
LONGEST_ROUND_TRIP_S = 30.0
"""A ping that has not come back by then was lost.  Links may take 10 s each way, longer than a peer may be silent."""


class _OnTheWay(NamedTuple):
    """A payload that was given to the link."""

    num_bytes: int
    from_s: float
    """When it lands, if the link tells; else when it was sent."""
    queued_bytes: int
    """What is to be sent from then on until it has landed, itself included."""


class Connection:
    """State of the connection to one such node; gives Send instructions.

    `target` is where it stands; `name` tells neighbours apart, and is the peer of what is sent there.
    """

    def __init__(self, link: EmulatedLink | None, period_s: float, timeout_s: float, target: Source = "up", name: bytes = b"") -> None:
        self._link, self._target, self._name = link, target, name
        self._period_s, self._timeout_s = period_s, timeout_s
        self.estimator = LinkEstimator()
        self._nodes: tuple[NodeTelemetry, ...] = ()
        self._links: tuple[LinkView, ...] = ()
        self._pong_at_s = 0.0
        self._heard_at_s: float | None = None
        self._pinged: dict[int, float] = {}
        self._sequence = 0
        self._next_ping_at_s = 0.0
        self._on_the_way: dict[int, _OnTheWay] = {}

    def restart_link(self, seed: int, epoch_s: float) -> None:
        """A new episode: follow another trace, know nothing of the rate."""
        if self._link is not None:
            self._link.restart(seed, epoch_s)
        self.estimator.measured_at_s = None
        self.forget_transfers()

    @property
    def emulated(self) -> bool:
        """Whether the link to it is emulated."""
        return self._link is not None

    # ------------------------------------------------------------ sending

    def payload(self, request_id: int, message: Message, parcel: Parcel, at_s: float) -> tuple[Send, int, float | None]:
        """Send a payload: (instruction, bytes, time on the air if the link tells it)."""
        frames = seal(message, parcel)
        size = num_bytes(frames)
        transfer = self._link.transfer(request_id, size, at_s) if self._link is not None else None
        self._set_out(request_id, size, at_s, transfer)
        send = Send(
            target=self._target,
            peer=self._name,
            frames=frames,
            release_at_s=transfer.arrives_at_s if transfer is not None else 0.0,
            request_id=request_id,
            of_request=isinstance(message, OF_REQUESTS),
        )
        return send, size, transfer.sending_s if transfer is not None else None

    def control(self, message: Message, at_s: float, *, past_emulation: bool = False) -> Send:
        """Send a control message."""
        emulate = self._link is not None and not past_emulation
        release_at_s = self._link.control_arrives_at_s(at_s) if emulate and self._link is not None else 0.0
        return Send(target=self._target, peer=self._name, frames=to_frames(message), release_at_s=release_at_s)

    def _set_out(self, transfer_id: int, size_bytes: int, at_s: float, transfer: Transfer | None) -> None:
        self.estimator.on_sent(transfer_id, size_bytes, at_s, transfer.sending_s if transfer is not None else None)
        if transfer is not None:
            self._on_the_way[transfer_id] = _OnTheWay(size_bytes, transfer.arrives_at_s, 0)
        else:
            self._on_the_way[transfer_id] = _OnTheWay(size_bytes, at_s, self.outstanding_bytes + size_bytes)

    # ------------------------------------------------------------ time

    def tick(self, at_s: float) -> list[Send]:
        """Ping when it is time; probe the rate when it is old and the link is idle."""
        if at_s < self._next_ping_at_s:
            return []
        missed = (at_s - self._next_ping_at_s) // self._period_s if self._next_ping_at_s > 0 else 0
        self._next_ping_at_s = (self._next_ping_at_s if self._next_ping_at_s > 0 else at_s) + (missed + 1) * self._period_s
        self._forget_lost(at_s)
        sends = [self._ping(at_s)]
        if self.reachable(at_s) and not self._on_the_way and self.estimator.age_s(at_s) > PROBE_AFTER_S:
            sends.append(self.probe(at_s))
        return sends

    @property
    def next_tick_at_s(self) -> float:
        """When `tick` has something to do."""
        return self._next_ping_at_s

    def _forget_lost(self, at_s: float) -> None:
        """Give up what should have been acknowledged for as long as a peer may be silent: it was lost when a connection broke."""
        for transfer_id, (_, from_s, queued_bytes) in list(self._on_the_way.items()):
            acknowledged_at_s = from_s + queued_bytes / self.estimator.rate_bytes_per_s + 2 * self.estimator.delay_s
            if at_s - acknowledged_at_s > self._timeout_s:
                self.forget(transfer_id)
        while self._pinged and at_s - next(iter(self._pinged.values())) > LONGEST_ROUND_TRIP_S:
            del self._pinged[next(iter(self._pinged))]

    def _ping(self, at_s: float) -> Send:
        self._sequence += 1
        self._pinged[self._sequence] = at_s
        return self.control(Ping(sequence=self._sequence, beside=self._target == "neighbour"), at_s)

    def probe(self, at_s: float) -> Send:
        """A ping with payload: its answer measures the rate.  Its transfer id is minus its sequence."""
        self._sequence += 1
        ping = Ping(sequence=self._sequence, beside=self._target == "neighbour")
        return self.payload(-self._sequence, ping, PROBE, at_s)[0]

    # ------------------------------------------------------------ hearing

    def heard(self, at_s: float) -> None:
        """Any message from it: it is there."""
        self._heard_at_s = at_s

    def on_pong(self, pong: Pong, at_s: float) -> bool:
        """Its telemetry.  True when it answered a probe."""
        sent_at_s = self._pinged.pop(pong.sequence, None)
        if sent_at_s is not None:
            self.estimator.on_pong(at_s - sent_at_s)
        self._nodes, self._links, self._pong_at_s = pong.nodes, pong.links, at_s
        if sent_at_s is not None:
            return False
        self.on_ack(-pong.sequence, at_s)
        return True

    def on_ack(self, transfer_id: int, at_s: float) -> None:
        """A payload has arrived there."""
        self._on_the_way.pop(transfer_id, None)
        self.estimator.on_ack(transfer_id, at_s)

    def forget(self, transfer_id: int) -> None:
        """That payload will not be acknowledged any more."""
        self._on_the_way.pop(transfer_id, None)
        self.estimator.forget(transfer_id)

    def forget_transfers(self) -> None:
        """Nothing that is on its way will be acknowledged any more."""
        for transfer_id in list(self._on_the_way):
            self.forget(transfer_id)

    @property
    def outstanding_bytes(self) -> int:
        """Bytes given to the link and not yet acknowledged."""
        return sum(transfer.num_bytes for transfer in self._on_the_way.values())

    def unacknowledged_bytes(self, transfer_id: int) -> int:
        """Of that payload; 0 when it has arrived."""
        transfer = self._on_the_way.get(transfer_id)
        return transfer.num_bytes if transfer is not None else 0

    # ------------------------------------------------------------ views

    def reachable(self, at_s: float) -> bool:
        """Heard of lately."""
        return self._heard_at_s is not None and at_s - self._heard_at_s < self._timeout_s

    def telemetry(self, at_s: float) -> tuple[NodeTelemetry, ...]:
        """What it said of itself and of the nodes above it, aged to now; empty when it is unreachable."""
        if not self.reachable(at_s):
            return ()
        extra_s = at_s - self._pong_at_s + self.estimator.delay_s
        return tuple(msgspec.structs.replace(node, age_s=node.age_s + extra_s) for node in self._nodes)

    def memory_bytes(self) -> dict[str, int]:
        """Tier -> peak resident set as last reported."""
        return {node.tier: node.memory_bytes for node in self._nodes}

    def link_views(self, at_s: float, outstanding_bytes: float = 0.0) -> tuple[LinkView, ...]:
        """The link to it, then those above it as it reported them, aged to now."""
        own = LinkView(
            rate_bytes_per_s=self.estimator.rate_bytes_per_s,
            delay_s=self.estimator.delay_s,
            outstanding_bytes=outstanding_bytes,
            age_s=self.estimator.age_s(at_s),
        )
        extra_s = at_s - self._pong_at_s + self.estimator.delay_s
        above = tuple(
            LinkView(
                rate_bytes_per_s=link.rate_bytes_per_s,
                delay_s=link.delay_s,
                outstanding_bytes=link.outstanding_bytes,
                age_s=link.age_s + extra_s,
            )
            for link in self._links
        )
        return (own, *above)
