"""Those that a node answers: others, below or beside, behind emulated links of their own; clients over links that are not ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runtime.codec import num_bytes, seal, to_frames
from runtime.codecs.parcel import Parcel
from runtime.links import EmulatedLink
from runtime.messages import Message
from runtime.protocol.events import OF_REQUESTS, Send

FORGOTTEN_AFTER_S = 300.0
"""A node that was not heard of for this long, five of the longest telemetry periods, does not come back under its old id."""


@dataclass(slots=True)
class _Node:
    link: EmulatedLink | None
    beside: bool
    pinged_at_s: float


class Downstream:
    """Gives Send instructions.

    `make_link` gives the emulated link to one node below, `make_beside` to a neighbour; None: links are real.
    """

    def __init__(self, make_link: Callable[[], EmulatedLink] | None, make_beside: Callable[[], EmulatedLink] | None = None) -> None:
        self._make_link, self._make_beside = make_link, make_beside
        self._nodes: dict[bytes, _Node] = {}
        self._episode = (0, 0.0)

    def is_node(self, peer: bytes, at_s: float, beside: bool = False) -> None:
        """This peer is a node: it pings.  `beside`: one of our own tier."""
        known = self._nodes.get(peer)
        if known is not None:
            known.pinged_at_s = at_s
            return
        # whoever connects anew has a new id, so the old ones would add up
        self._nodes = {name: node for name, node in self._nodes.items() if at_s - node.pinged_at_s < FORGOTTEN_AFTER_S}
        make_link = self._make_beside if beside else self._make_link
        link = make_link() if make_link is not None else None
        if link is not None:
            link.restart(*self._episode)
        self._nodes[peer] = _Node(link, beside, at_s)

    def is_beside(self, peer: bytes) -> bool:
        """Whether it is known as a node of our own tier."""
        return peer in self._nodes and self._nodes[peer].beside

    def restart_links(self, seed: int, epoch_s: float) -> None:
        """A new episode: follow another trace."""
        self._episode = (seed, epoch_s)
        for node in self._nodes.values():
            if node.link is not None:
                node.link.restart(seed, epoch_s)

    def link_to(self, peer: bytes) -> EmulatedLink | None:
        """The emulated link to it; None for clients, and where links are real."""
        node = self._nodes.get(peer)
        return node.link if node is not None else None

    def control(self, peer: bytes, message: Message, at_s: float) -> Send:
        """Send a control message down."""
        link = self.link_to(peer)
        release_at_s = link.control_arrives_at_s(at_s) if link is not None else 0.0
        of_request = isinstance(message, OF_REQUESTS)
        return Send(target="down", peer=peer, frames=to_frames(message), release_at_s=release_at_s, of_request=of_request)

    def payload(self, peer: bytes, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> tuple[Send, int]:
        """Send a payload down: (instruction, bytes)."""
        frames = seal(message, parcel)
        size, link = num_bytes(frames), self.link_to(peer)
        release_at_s = link.transfer(transfer_id, size, at_s).arrives_at_s if link is not None else 0.0
        of_request = isinstance(message, OF_REQUESTS)
        return Send(target="down", peer=peer, frames=frames, release_at_s=release_at_s, of_request=of_request), size
