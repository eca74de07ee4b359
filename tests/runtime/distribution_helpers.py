"""A manifest with files, and what comes from above and from the threads, for tests of loading and fetching."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from runtime.messages import CHUNK_BYTES, Chunk, NotHere, NotHereReason
from runtime.models.manifest import Manifest, SegmentFile, StoredFile, segment_key
from runtime.models.pieces import Piece
from runtime.protocol.events import FileKept, Instruction, Load, Loaded, Received, Unload
from tests.runtime.protocol_helpers import received, tiny_manifest

GRAPH_BYTES = 10
WEIGHTS_BYTES = 100


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def stored(path: str, num_bytes: int) -> StoredFile:
    """A file whose hash is that of its path."""
    return StoredFile(path=path, sha256=sha256(path.encode()), num_bytes=num_bytes)


def loadable_manifest() -> Manifest:
    """`tiny_manifest` in two variants, with a graph for each segment and weights for each variant."""
    tiny = tiny_manifest()
    bounds = [(i, j, None) for j in range(1, 4) for i in range(j)] + [(i, end, exit) for exit, end in enumerate((2, 3)) for i in range(end)]
    variants = {}
    for name in ("fp32", "int8"):
        segments = {}
        for start, stop, exit in bounds:
            key = segment_key(start, stop, exit)
            file = stored(f"{name}/{key}.onnx", GRAPH_BYTES)
            segments[key] = SegmentFile(path=file.path, sha256=file.sha256, num_bytes=GRAPH_BYTES, weights=("w",))
        weights = stored(f"{name}/weights", WEIGHTS_BYTES)
        variants[name] = msgspec.structs.replace(tiny.variants["fp32"], segments=segments, weights=weights)
    return msgspec.structs.replace(tiny, variants=variants)


def piece(start: int, stop: int, exit: int | None = None, variant: str = "fp32") -> Piece:
    return Piece(model="tiny", variant=variant, start=start, stop=stop, exit=exit)


def loads(instructions: list[Instruction]) -> list[Piece]:
    return [item.piece for item in instructions if isinstance(item, Load)]


def unloads(instructions: list[Instruction]) -> list[Piece]:
    return [item.piece for item in instructions if isinstance(item, Unload)]


def loaded(one: Piece, at_s: float, missing: tuple[StoredFile, ...] = (), error: str = "") -> Loaded:
    return Loaded(piece=one, at_s=at_s, missing=missing, error=error)


def chunk(sha: str, data: bytes, at_s: float, *, offset: int = 0, whole: int | None = None) -> Received:
    """A chunk from above."""
    message = Chunk(sha256=sha, offset=offset, num_bytes=len(data) if whole is None else whole)
    return received(message, [np.asarray(memoryview(data[:CHUNK_BYTES]))], at_s=at_s, source="up")


def not_here(name: str, reason: NotHereReason, at_s: float) -> Received:
    return received(NotHere(name=name, reason=reason, message="not to be had"), at_s=at_s, source="up")


def kept(sha: str, at_s: float, reason: NotHereReason | None = None) -> FileKept:
    return FileKept(sha256=sha, at_s=at_s, reason=reason, error="" if reason is None else "it is not right")
