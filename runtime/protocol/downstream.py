"""Those that a node answers: others, below or beside, behind emulated links of their own; clients over links that are not ours."""

from __future__ import annotations

from collections.abc import Callable

from runtime.codec import num_bytes, seal, to_frames
from runtime.codecs.parcel import Parcel
from runtime.links import EmulatedLink
from runtime.messages import Message
from runtime.protocol.events import Send


class Downstream:
    """Gives Send instructions.

    `make_link` gives the emulated link to one node below, `make_beside` to a neighbour; None: links are real.
    """

    def __init__(self, make_link: Callable[[], EmulatedLink] | None, make_beside: Callable[[], EmulatedLink] | None = None) -> None:
        self._make_link, self._make_beside = make_link, make_beside
        self._beside: set[bytes] = set()
        self._nodes: dict[bytes, EmulatedLink | None] = {}
        self._episode = (0, 0.0)

    def is_node(self, peer: bytes, beside: bool = False) -> None:
        """This peer is a node: it pings.  `beside`: one of our own tier."""
        if peer not in self._nodes:
            if beside:
                self._beside.add(peer)
            make_link = self._make_beside if beside else self._make_link
            link = make_link() if make_link is not None else None
            if link is not None:
                link.restart(*self._episode)
            self._nodes[peer] = link

    def is_beside(self, peer: bytes) -> bool:
        """Whether it is known as a node of our own tier."""
        return peer in self._beside

    def restart_links(self, seed: int, epoch_s: float) -> None:
        """A new episode: follow another trace."""
        self._episode = (seed, epoch_s)
        for link in self._nodes.values():
            if link is not None:
                link.restart(seed, epoch_s)

    def control(self, peer: bytes, message: Message, at_s: float) -> Send:
        """Send a control message down."""
        link = self._nodes.get(peer)
        release_at_s = link.control_arrives_at_s(at_s) if link is not None else 0.0
        return Send(target="down", peer=peer, frames=to_frames(message), release_at_s=release_at_s)

    def payload(self, peer: bytes, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> tuple[Send, int]:
        """Send a payload down: (instruction, bytes)."""
        frames = seal(message, parcel)
        size, link = num_bytes(frames), self._nodes.get(peer)
        release_at_s = link.transfer(transfer_id, size, at_s).arrives_at_s if link is not None else 0.0
        return Send(target="down", peer=peer, frames=frames, release_at_s=release_at_s), size
