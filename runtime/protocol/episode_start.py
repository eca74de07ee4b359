"""From StartEpisode to EpisodeStarted: the links begin again, the node above is told, and whoever asked hears when all is ready."""

from __future__ import annotations

from runtime.codec import to_frames
from runtime.messages import EpisodeStarted, StartEpisode
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import DropHeld, Instruction, Send


class EpisodeStart:
    """The start of one node's episodes; a later one takes the place of one that is not ready yet."""

    def __init__(self, upstream: Connection | None, downstream: Downstream) -> None:
        self._up, self._down = upstream, downstream
        self._asked: tuple[bytes, StartEpisode] | None = None
        self._started_above = False
        self.epoch_s = 0.0
        """When the episode begins, or began."""

    def begin(self, peer: bytes, start: StartEpisode, at_s: float) -> list[Instruction]:
        """Restart the emulation of links, all of them empty, pass it on, and measure the link upwards anew."""
        self.epoch_s = at_s + start.starts_in_s
        self._down.restart_links(start.seed, self.epoch_s)
        self._asked, self._started_above = (peer, start), self._up is None
        if self._up is None:
            return [DropHeld()]
        self._up.restart_link(start.seed, self.epoch_s)
        return [DropHeld(), self._up.control(start, at_s, past_emulation=True), self._up.probe(at_s)]

    def is_under_way(self, seed: int) -> bool:
        """Whether the episode with this seed is being started."""
        return self._asked is not None and self._asked[1].seed == seed

    def started_above(self, seed: int) -> None:
        """The node above has begun it, and those above that."""
        self._started_above = self.is_under_way(seed)

    def answer(self) -> list[Instruction]:
        """Told to whoever asked, once: when the node above has begun, and a probe has measured the link."""
        if self._asked is None or not self._started_above:
            return []
        if self._up is not None and self._up.estimator.measured_at_s is None:
            return []
        peer, start = self._asked
        self._asked = None
        return [Send(target="down", peer=peer, frames=to_frames(EpisodeStarted(seed=start.seed)))]
