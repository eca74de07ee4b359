"""Messages by which a node gets model files from the node above it: a manifest by name, everything else by content hash.

    below                                   above
      ManifestQuery(model)        ──►
                                  ◄──   ManifestFound(sha256, num_bytes)      a manifest is a file like any other
      ChunkQuery(sha256, offset)  ──►
                                  ◄──   Chunk(offset, num_bytes) + its bytes  or NotHere(reason)

A file crosses the link in chunks, one asked for at a time, so that answers and heartbeats pass between them.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from runtime.messages.names import MAX_NAME_CHARS

CHUNK_BYTES = 64 * 1024
"""Most bytes of a file in one message: half a second of the slowest links that scenarios have, 5 ms at 100 Mbit/s."""
MAX_FILE_BYTES = 1 << 30

NotHereReason = Literal["unknown", "peer_lost", "corrupt", "storage", "overload"]
"""Why a file is not to be had: neither here nor above, nobody above to ask, wrong bytes from above (twice), no room to
keep it, or too many files are asked for at once."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ManifestQuery(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Downstream to upstream: which file is the manifest of this model?"""

    model: str

    def __post_init__(self) -> None:
        _check_model(self.model)


class ManifestFound(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to ManifestQuery."""

    model: str
    sha256: str
    num_bytes: int

    def __post_init__(self) -> None:
        _check_model(self.model)
        _check_sha256(self.sha256)
        _check_size(self.num_bytes)


class ChunkQuery(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Downstream to upstream: the bytes of this file from `offset` on, please."""

    sha256: str
    offset: int

    def __post_init__(self) -> None:
        _check_sha256(self.sha256)
        _check_size(self.offset)


class Chunk(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to ChunkQuery.  One uint8 tensor follows: at most `CHUNK_BYTES` from `offset` on, of `num_bytes` in all."""

    sha256: str
    offset: int
    num_bytes: int

    def __post_init__(self) -> None:
        _check_sha256(self.sha256)
        _check_size(self.offset)
        _check_size(self.num_bytes)


class NotHere(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to ManifestQuery or ChunkQuery: it is not to be had, neither here nor further up."""

    name: str
    """What was asked for: a model's name, or a SHA-256."""
    reason: NotHereReason
    message: str


DistributionMessage = ManifestQuery | ManifestFound | ChunkQuery | Chunk | NotHere


def _check_model(model: str) -> None:
    if not 0 < len(model) <= MAX_NAME_CHARS:
        raise ValueError(f"a model's name has 1..{MAX_NAME_CHARS} characters, got {len(model)}")


def _check_sha256(text: str) -> None:
    if _SHA256.fullmatch(text) is None:
        raise ValueError(f"a SHA-256 is 64 hexadecimal digits, got {text[:80]!r}")


def _check_size(num_bytes: int) -> None:
    if not 0 <= num_bytes <= MAX_FILE_BYTES:
        raise ValueError(f"a model file has at most {MAX_FILE_BYTES} bytes, got {num_bytes}")
