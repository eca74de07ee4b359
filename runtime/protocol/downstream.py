"""The nodes and clients below, as seen from above: who they are, and the link down to them."""

from __future__ import annotations

from runtime.codec import num_bytes, seal, to_frames
from runtime.codecs.parcel import Parcel
from runtime.links import EmulatedLink
from runtime.messages import Message
from runtime.protocol.events import Send


class Downstream:
    """Gives Send instructions downwards.

    The emulated link leads to nodes below us, which ping; other clients come over links of their own.
    """

    def __init__(self, link: EmulatedLink | None) -> None:
        self._link = link
        self._nodes: set[bytes] = set()

    def restart_link(self, seed: int, epoch_s: float) -> None:
        """A new episode: follow another trace."""
        if self._link is not None:
            self._link.restart(seed, epoch_s)

    def pinged(self, peer: bytes) -> None:
        """This peer is a node."""
        self._nodes.add(peer)

    def control(self, peer: bytes, message: Message, at_s: float) -> Send:
        """Send a control message down."""
        link = self._link_to(peer)
        release_at_s = link.control_arrives_at_s(at_s) if link is not None else 0.0
        return Send(target="down", peer=peer, frames=to_frames(message), release_at_s=release_at_s)

    def payload(self, peer: bytes, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> Send:
        """Send a payload down; the link's jitter is drawn for the transfer's id."""
        frames = seal(message, parcel)
        link = self._link_to(peer)
        release_at_s = link.transfer(transfer_id, num_bytes(frames), at_s).arrives_at_s if link is not None else 0.0
        return Send(target="down", peer=peer, frames=frames, release_at_s=release_at_s)

    def _link_to(self, peer: bytes) -> EmulatedLink | None:
        return self._link if peer in self._nodes else None
