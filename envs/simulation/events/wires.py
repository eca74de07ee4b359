"""Connections whose messages are not written on any wire: they keep their time, their bytes, and their message."""

from __future__ import annotations

from collections.abc import Callable

from runtime.codecs.parcel import Parcel
from runtime.links import EmulatedLink
from runtime.messages import Message
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Send, Source

NO_PARCEL = Parcel()

BytesOf = Callable[[Message, Parcel], int]
"""What a message takes on the wire."""


class Letter(Send, frozen=True, kw_only=True):
    """A Send without frames."""

    message: Message
    parcel: Parcel = NO_PARCEL
    num_bytes: int = 0


class Said(Send, frozen=True, kw_only=True):
    """What a device says to its client or its controller, without frames."""

    message: Message


class VirtualConnection(Connection):
    """A Connection over a simulated link.  `hop_s` is what the runtime takes from giving a payload away until the link has it."""

    def __init__(
        self,
        link: EmulatedLink,
        period_s: float,
        timeout_s: float,
        bytes_of: BytesOf,
        hop_s: float,
        target: Source = "up",
        name: bytes = b"",
    ) -> None:
        super().__init__(link, period_s, timeout_s, target, name)
        self._line, self._bytes_of, self._hop_s = link, bytes_of, hop_s

    def payload(self, request_id: int, message: Message, parcel: Parcel, at_s: float) -> tuple[Send, int, float | None]:
        """See Connection."""
        size = self._bytes_of(message, parcel)
        transfer = self._line.transfer(request_id, size, at_s + self._hop_s)
        self._set_out(request_id, size, at_s, transfer)
        send = Letter(
            target=self._target,
            peer=self._name,
            frames=[],
            release_at_s=transfer.arrives_at_s,
            request_id=request_id,
            message=message,
            parcel=parcel,
            num_bytes=size,
        )
        return send, size, transfer.sending_s

    def control(self, message: Message, at_s: float, *, past_emulation: bool = False) -> Send:
        """See Connection."""
        release_at_s = at_s if past_emulation else self._line.control_arrives_at_s(at_s)
        return Letter(target=self._target, peer=self._name, frames=[], release_at_s=release_at_s, message=message)


class VirtualDownstream(Downstream):
    """A Downstream over simulated links.  `hop_s` and `hop_beside_s`: what the runtime takes once a payload has landed."""

    def __init__(
        self,
        make_link: Callable[[], EmulatedLink],
        bytes_of: BytesOf,
        hop_s: float,
        make_beside: Callable[[], EmulatedLink] | None = None,
        hop_beside_s: float = 0.0,
    ) -> None:
        super().__init__(make_link, make_beside)
        self._bytes_of, self._hop_s, self._hop_beside_s = bytes_of, hop_s, hop_beside_s

    def payload(self, peer: bytes, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> tuple[Send, int]:
        """See Downstream."""
        size, link = self._bytes_of(message, parcel), self.link_to(peer)
        release_at_s = at_s
        if link is not None:
            hop_s = self._hop_beside_s if self.is_beside(peer) else self._hop_s
            release_at_s = link.transfer(transfer_id, size, at_s).arrives_at_s + hop_s
        letter = Letter(target="down", peer=peer, frames=[], release_at_s=release_at_s, message=message, parcel=parcel, num_bytes=size)
        return letter, size

    def control(self, peer: bytes, message: Message, at_s: float) -> Send:
        """See Downstream."""
        link = self.link_to(peer)
        release_at_s = link.control_arrives_at_s(at_s) if link is not None else at_s
        return Letter(target="down", peer=peer, frames=[], release_at_s=release_at_s, message=message)
