"""How a training job's messages leave a node: over the same sockets and links as everything else."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from runtime.codecs.parcel import Parcel
from runtime.messages import Message, Tier
from runtime.protocol.events import Send


class Sent(NamedTuple):
    """A payload on its way."""

    send: Send
    num_bytes: int
    sending_s: float
    """Time on the air, where the link tells it; else 0."""


class Ports(Protocol):
    """What a node lends its training part."""

    name: str
    tier: Tier

    def up(self, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> Sent | None:
        """A payload to the node above; None when there is none within reach."""
        ...

    def up_control(self, message: Message, at_s: float) -> Send | None:
        """A small message to the node above."""
        ...

    def down(self, peer: bytes, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> Sent:
        """A payload to a peer below."""
        ...

    def down_control(self, peer: bytes, message: Message, at_s: float) -> Send:
        """A small message to a peer below, or to a session."""
        ...

    def unacknowledged_bytes(self, transfer_id: int) -> int:
        """Of a payload given to the link upwards; 0 when it has arrived, or none is on its way."""
        ...

    def joules(self, compute_s: float, sent_bytes: int, sending_s: float) -> float:
        """Modelled energy of computing and sending; 0 where no battery minds."""
        ...
