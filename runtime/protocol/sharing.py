"""Model files for the nodes below: what is here is read and sent, what is not is fetched from above first, and kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
import numpy as np

from runtime.codecs.parcel import pack
from runtime.messages import CHUNK_BYTES, MAX_FILE_BYTES, Chunk, ChunkQuery, ManifestFound, ManifestQuery, NotHere, NotHereReason
from runtime.models.manifest import StoredFile
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Instruction, PartRead, ReadPart
from runtime.protocol.fetching import Fetching, Trouble

MAX_ASKED_FOR = 64
"""Files, and models, that nodes below may wait for at once."""


class Sharing:
    """Answers those below.  `manifests` are the files that describe the models served here, by model."""

    def __init__(
        self, manifests: Mapping[str, StoredFile], upstream: Connection | None, downstream: Downstream, fetching: Fetching
    ) -> None:
        self._manifests, self._up, self._down, self._fetching = manifests, upstream, downstream, fetching
        self._asking_models: dict[str, set[bytes]] = {}
        self._asking_files: dict[str, dict[bytes, ReadPart]] = {}
        self.counters: Counter[str] = Counter()

    # ------------------------------------------------------------ manifests

    def on_manifest_query(self, peer: bytes, query: ManifestQuery, at_s: float) -> list[Instruction]:
        """Which file describes a model: known here, or asked of the node above."""
        file = self._manifests.get(query.model)
        if file is not None:
            found = ManifestFound(model=query.model, sha256=file.sha256, num_bytes=file.num_bytes)
            return [self._down.control(peer, found, at_s)]
        if self._up is None or not self._up.reachable(at_s):
            reason: NotHereReason = "unknown" if self._up is None else "peer_lost"
            return [self._refuse(peer, query.model, Trouble(reason=reason, message=self._unknown(query.model)), at_s)]
        if query.model not in self._asking_models and len(self._asking_models) >= MAX_ASKED_FOR:
            return [self._refuse(peer, query.model, Trouble(reason="overload", message="too many models are asked for"), at_s)]
        self._asking_models.setdefault(query.model, set()).add(peer)
        return [self._up.control(query, at_s)]

    def on_manifest_found(self, found: ManifestFound, at_s: float) -> list[Instruction]:
        """The node above knows: pass it on to whoever asked."""
        return [self._down.control(peer, found, at_s) for peer in self._asking_models.pop(found.model, ())]

    def on_not_here(self, answer: NotHere, at_s: float) -> list[Instruction]:
        """The node above knows no such model."""
        return [self._down.control(peer, answer, at_s) for peer in self._asking_models.pop(answer.name, ())]

    def lost(self, at_s: float) -> list[Instruction]:
        """The node above is silent: nobody will answer for it."""
        asked, self._asking_models = self._asking_models, {}
        trouble = Trouble(reason="peer_lost", message="the node above fell silent")
        return [self._refuse(peer, model, trouble, at_s) for model, peers in asked.items() for peer in peers]

    # ------------------------------------------------------------ files

    def on_chunk_query(self, peer: bytes, query: ChunkQuery) -> list[Instruction]:
        """Have a part of a file read."""
        return [ReadPart(peer=peer, sha256=query.sha256, offset=query.offset)]

    def on_part_read(self, event: PartRead) -> list[Instruction]:
        """Send what was read; a file that is not here is fetched, once, and one that is too large for any node to take is refused."""
        part, at_s = event.part, event.at_s
        if event.num_bytes > MAX_FILE_BYTES:
            trouble = Trouble(reason="storage", message=f"it has {event.num_bytes} bytes, at most {MAX_FILE_BYTES} are distributed")
            return [self._refuse(part.peer, part.sha256, trouble, at_s)]
        if event.data is not None:
            return [self._send(part, event.data, event.num_bytes, at_s)]
        if part.fetched:
            return [self._refuse(part.peer, part.sha256, Trouble(reason="storage", message="it was fetched and is gone again"), at_s)]
        if part.sha256 not in self._asking_files and len(self._asking_files) >= MAX_ASKED_FOR:
            return [self._refuse(part.peer, part.sha256, Trouble(reason="overload", message="too many files are asked for"), at_s)]
        self._asking_files.setdefault(part.sha256, {})[part.peer] = part
        return self._fetching.want(part.sha256, None, at_s)

    def on_file(self, sha256: str, trouble: Trouble | None, at_s: float) -> list[Instruction]:
        """A fetch has ended: go on with those who waited for it."""
        parts = self._asking_files.pop(sha256, {}).values()
        if trouble is not None:
            return [self._refuse(part.peer, sha256, trouble, at_s) for part in parts]
        return [msgspec.structs.replace(part, fetched=True) for part in parts]

    # ------------------------------------------------------------ details

    def _send(self, part: ReadPart, data: bytes, num_bytes: int, at_s: float) -> Instruction:
        self.counters["shared_bytes"] += len(data)
        chunk = Chunk(sha256=part.sha256, offset=part.offset, num_bytes=num_bytes)
        payload = pack([np.asarray(memoryview(data))])
        return self._down.payload(part.peer, part.offset // CHUNK_BYTES, chunk, payload, at_s)[0]

    def _refuse(self, peer: bytes, name: str, trouble: Trouble, at_s: float) -> Instruction:
        self.counters["refused_files"] += 1
        return self._down.control(peer, NotHere(name=name, reason=trouble.reason, message=trouble.message), at_s)

    def _unknown(self, model: str) -> str:
        return f"model {model!r} is not served here; there is {', '.join(self._manifests) or 'none'}"
