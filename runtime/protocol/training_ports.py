"""A node's training part reaches the others as its requests do: the same sockets, links and energy model."""

from __future__ import annotations

from runtime.codecs.parcel import Parcel
from runtime.energy import ComputePower, RadioPower
from runtime.messages import Message
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Send
from runtime.protocol.identity import Identity
from runtime.radio import Transmission, active_joules
from runtime.training.protocol.ports import Sent


class TrainingPorts:
    """Implements runtime.training.protocol.ports.Ports for a node."""

    def __init__(
        self, identity: Identity, upstream: Connection | None, downstream: Downstream, power: tuple[ComputePower, RadioPower] | None
    ) -> None:
        self.name, self.tier = identity.name, identity.tier
        self._up, self._down, self._power = upstream, downstream, power

    def up(self, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> Sent | None:
        """A payload to the node above; None when there is none within reach."""
        if self._up is None or not self._up.reachable(at_s):
            return None
        send, size, sending_s = self._up.payload(transfer_id, message, parcel, at_s)
        known_s = sending_s if sending_s is not None else size / self._up.estimator.rate_bytes_per_s
        return Sent(send=send, num_bytes=size, sending_s=known_s)

    def up_control(self, message: Message, at_s: float) -> Send | None:
        """A small message to the node above."""
        return self._up.control(message, at_s) if self._up is not None and self._up.reachable(at_s) else None

    def down(self, peer: bytes, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> Sent:
        """A payload to a peer below."""
        send, size = self._down.payload(peer, transfer_id, message, parcel, at_s)
        return Sent(send=send, num_bytes=size, sending_s=0.0)

    def down_control(self, peer: bytes, message: Message, at_s: float) -> Send:
        """A small message to a peer below, or to a session."""
        return self._down.control(peer, message, at_s)

    def unacknowledged_bytes(self, transfer_id: int) -> int:
        """Of a payload given to the link upwards; 0 when it has arrived, or none is on its way."""
        return self._up.unacknowledged_bytes(transfer_id) if self._up is not None else 0

    def joules(self, compute_s: float, sent_bytes: int, sending_s: float) -> float:
        """Computing above idle and sending; 0 on nodes without a battery."""
        if self._power is None:
            return 0.0
        compute, radio = self._power
        sent = Transmission(at_s=0.0, num_bytes=sent_bytes, duration_s=sending_s)
        return compute.above_idle_joules(compute_s) + (active_joules(radio, sent) if sent_bytes else 0.0)
