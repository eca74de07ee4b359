"""Messages of centralised training: examples go up to the root, piece by piece, and only those that it has not got.

client ──Join──► root ──Wanted──► client ──Upload──► root ──Wanted──► ... ──Wanted (all)──► client ──Uploaded──► root
"""

from __future__ import annotations

import msgspec

from runtime.messages.names import complain


class Wanted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Root to client: the examples before `first` are here; send those from it on, if there are any."""

    job: str
    client: str
    first: int

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError(f"examples are counted from 0, got {self.first}")


class Upload(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client to root: some of its examples.  Two tensors follow: images [N, 1, ...] and labels int64 [N]."""

    request_id: int
    """Of the transfer, for its Ack."""
    job: str
    client: str
    first: int
    """Index of the first of them."""
    total: int
    """Examples that the client has."""

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.total:
            raise ValueError(f"an upload begins at one of the client's examples, got {self.first} of {self.total}")


class Uploaded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client to root: all my examples are with you; this is what sending them has cost since I last said so."""

    job: str
    client: str
    joules: float

    def __post_init__(self) -> None:
        complain(self, "joules")
