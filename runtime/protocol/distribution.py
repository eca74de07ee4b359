"""Model files and pieces at one node, in one place: fetched from above, shared with those below, loaded for work here."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.messages import Chunk, ChunkQuery, DistributionMessage, ManifestFound, ManifestQuery, NotHere
from runtime.models.manifest import StoredFile
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import FileKept, Instruction, Loaded, PartRead, Received
from runtime.protocol.fetching import Fetching, Trouble
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.loading import Loading
from runtime.protocol.residency import Residency
from runtime.protocol.sharing import Sharing

DistributionEvent = Loaded | FileKept | PartRead


class Distribution:
    """Takes the messages and events of distribution.  `loading` is None where everything was loaded before the start."""

    def __init__(
        self,
        models: HostedModels,
        manifests: Mapping[str, StoredFile],
        residency: Residency | None,
        upstream: Connection | None,
        downstream: Downstream,
    ) -> None:
        self._up = upstream
        self._fetching = Fetching(upstream)
        self._sharing = Sharing(manifests, upstream, downstream, self._fetching)
        self._everything = tuple(sorted(f"{manifest.model}/{variant}" for manifest in models for variant in manifest.variants))
        self.loading = Loading(residency, self._fetching) if residency is not None else None

    @property
    def loaded(self) -> tuple[str, ...]:
        """Variants in memory, as `model/variant`."""
        return self.loading.loaded if self.loading is not None else self._everything

    def on_message(self, event: Received, message: DistributionMessage) -> list[Instruction]:
        """From below they are questions, from above answers; the other way round they are nothing."""
        at_s, out = event.at_s, list[Instruction]()
        match message:
            case ManifestQuery() if event.source == "down":
                out = self._sharing.on_manifest_query(event.peer, message, at_s)
            case ChunkQuery() if event.source == "down":
                out = self._sharing.on_chunk_query(event.peer, message)
            case ManifestFound() if event.source == "up":
                out = self._sharing.on_manifest_found(message, at_s)
            case Chunk() if event.source == "up":
                out = self._fetching.on_chunk(message, event.parcel, at_s)
            case NotHere() if event.source == "up":
                trouble = Trouble(reason=message.reason, message=message.message)
                out = self._sharing.on_not_here(message, at_s) + self._fetching.on_not_here(message.name, trouble, at_s)
        return out + self._settle(at_s)

    def on_event(self, event: DistributionEvent) -> list[Instruction]:
        """What the shell's threads did."""
        match event:
            case Loaded():
                out = self.loading.on_loaded(event) if self.loading is not None else []
            case FileKept():
                out = self._fetching.on_kept(event)
            case PartRead():
                out = self._sharing.on_part_read(event)
        return out + self._settle(event.at_s)

    def tick(self, at_s: float) -> list[Instruction]:
        """Ask again, or give up."""
        out = self._fetching.tick(at_s)
        if self._up is not None and not self._up.reachable(at_s):
            out += self._sharing.lost(at_s)
        return out + self._settle(at_s)

    @property
    def next_tick_at_s(self) -> float:
        """When `tick` has something to do."""
        return self._fetching.next_tick_at_s

    def counters(self) -> dict[str, int]:
        """Totals since the start."""
        loads = self.loading.counters if self.loading is not None else {}
        return {**self._fetching.counters, **self._sharing.counters, **loads}

    def _settle(self, at_s: float) -> list[Instruction]:
        """Tell whoever waits for files which of them came to an end; that may end others."""
        out: list[Instruction] = []
        while ended := self._fetching.take_ended():
            for sha256, trouble in ended:
                out += self._sharing.on_file(sha256, trouble, at_s)
                if self.loading is not None:
                    out += self.loading.on_file(sha256, trouble)
        return out
