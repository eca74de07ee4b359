"""Getting files from the node above: chunk by chunk, a few files at once, each hash verified before anything uses it.

    want ──► ChunkQuery ◄──► Chunk ... last Chunk ──► KeepFile ──► FileKept ──► ended
              ▲    │ NotHere, nobody above: ended in trouble            │ wrong hash
              └────┴──────────── once more from the start ◄─────────────┘

A fetch goes on when the request that began it has ended: the next one finds the file here, or nearly.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from runtime.codecs.parcel import IDENTITY, Parcel
from runtime.messages import CHUNK_BYTES, MAX_FILE_BYTES, Chunk, ChunkQuery, NotHereReason, Status
from runtime.patience import Patience
from runtime.protocol.connection import Connection
from runtime.protocol.events import FileKept, Instruction, KeepFile

MAX_ACTIVE = 4
"""Files under way at once: enough to keep a link busy although each waits for its chunk, few enough that the first are soon here."""
ASK_AGAIN_S = 2.0
"""A chunk that did not come within this was lost, or the link is slow, or the node above is itself fetching the file.

Asked twice it is sent twice, and the second one delays all that comes behind it: so the wait grows (runtime/patience.py)."""
ATTEMPTS = 2
"""Of a file whose bytes turn out not to be its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a file, or what needs it, is not to be had."""

    reason: NotHereReason
    message: str

    @property
    def status(self) -> Status:
        """How a request that needs it ends."""
        return self.reason if self.reason in ("peer_lost", "overload") else "internal"


@dataclass(slots=True)
class _Fetch:
    num_bytes: int | None
    """Expected size; None until the first chunk tells."""
    patience: Patience
    chunks: list[bytes] = field(default_factory=list)
    num_received: int = 0
    asked_at_s: float | None = None
    """None while it waits for its turn."""
    keeping: bool = False
    """All of it has come, and is being verified."""
    attempt: int = 1


class Fetching:
    """Files that are wanted from above.  `take_ended` tells which of them came to an end, and how."""

    def __init__(self, upstream: Connection | None) -> None:
        self._up = upstream
        self._fetches: dict[str, _Fetch] = {}
        self._wait_s = ASK_AGAIN_S
        """What the last chunk taught; the next file begins with it."""
        self._ended: list[tuple[str, Trouble | None]] = []
        self.counters: Counter[str] = Counter()

    def want(self, sha256: str, num_bytes: int | None, at_s: float) -> list[Instruction]:
        """Fetch a file, of that size if it is known; nothing happens when it is under way already."""
        if sha256 in self._fetches:
            return []
        if self._up is None:
            self._end(sha256, Trouble(reason="unknown", message=f"no file {sha256[:12]} here, and there is no node above to ask"))
            return []
        if not self._up.reachable(at_s):
            self._end(sha256, Trouble(reason="peer_lost", message=f"no file {sha256[:12]} here, and the node above is not to be reached"))
            return []
        self._fetches[sha256] = _Fetch(num_bytes, Patience(ASK_AGAIN_S, self._wait_s))
        return self._start_more(at_s)

    def take_ended(self) -> list[tuple[str, Trouble | None]]:
        """Files that are here now (None), or are not to be had, since the last call."""
        ended, self._ended = self._ended, []
        return ended

    # ------------------------------------------------------------ from above

    def on_chunk(self, chunk: Chunk, parcel: Parcel, at_s: float) -> list[Instruction]:
        """A part of a file; one that was not asked for (any more) is counted and ignored."""
        fetch = self._fetches.get(chunk.sha256)
        if fetch is None or fetch.keeping or fetch.asked_at_s is None or chunk.offset != fetch.num_received:
            self.counters["late_chunks"] += 1
            return []
        data = _bytes_of(parcel)
        expected = fetch.num_bytes if fetch.num_bytes is not None else min(chunk.num_bytes, MAX_FILE_BYTES)
        due = min(CHUNK_BYTES, expected - chunk.offset)
        if data is None or chunk.num_bytes != expected or len(data) != due:
            return self._wrong(chunk.sha256, fetch, f"a chunk at {chunk.offset} of {chunk.num_bytes} bytes, expected {expected}", at_s)
        fetch.patience.answered(at_s - fetch.asked_at_s)
        self._wait_s = fetch.patience.wait_s
        fetch.num_bytes = expected
        fetch.chunks.append(data)
        fetch.num_received += len(data)
        self.counters["fetched_bytes"] += len(data)
        if fetch.num_received < expected:
            return [self._ask(chunk.sha256, fetch, at_s)]
        fetch.keeping, chunks, fetch.chunks = True, tuple(fetch.chunks), []
        return [KeepFile(sha256=chunk.sha256, chunks=chunks)]

    def on_not_here(self, sha256: str, trouble: Trouble, at_s: float) -> list[Instruction]:
        """The node above has no such file."""
        if sha256 not in self._fetches:
            return []
        self._end(sha256, trouble)
        return self._start_more(at_s)

    def on_kept(self, event: FileKept) -> list[Instruction]:
        """A file that came whole was verified and kept, or not."""
        fetch = self._fetches.get(event.sha256)
        if fetch is None:
            return []
        if event.reason == "corrupt":
            return self._wrong(event.sha256, fetch, event.error, event.at_s)
        trouble = Trouble(reason=event.reason, message=event.error) if event.reason is not None else None
        self.counters["fetched_files" if trouble is None else "unkept_files"] += 1
        self._end(event.sha256, trouble)
        return self._start_more(event.at_s)

    # ------------------------------------------------------------ time

    def tick(self, at_s: float) -> list[Instruction]:
        """Ask again for what did not come; give everything up when the node above is lost."""
        if not self._fetches or self._up is None:
            return []
        if not self._up.reachable(at_s):
            for sha256 in [sha256 for sha256, fetch in self._fetches.items() if not fetch.keeping]:
                self._end(sha256, Trouble(reason="peer_lost", message=f"the node above fell silent amid file {sha256[:12]}"))
            return []
        overdue = [(sha256, fetch) for sha256, fetch in self._fetches.items() if _due_s(fetch) <= at_s]
        for _, fetch in overdue:
            fetch.patience.asked_again()
        return [self._ask(sha256, fetch, at_s) for sha256, fetch in overdue]

    @property
    def next_tick_at_s(self) -> float:
        """When a chunk is overdue."""
        return min(map(_due_s, self._fetches.values()), default=np.inf) if self._fetches else np.inf

    # ------------------------------------------------------------ details

    def _start_more(self, at_s: float) -> list[Instruction]:
        active = sum(fetch.asked_at_s is not None for fetch in self._fetches.values())
        waiting = [(sha256, fetch) for sha256, fetch in self._fetches.items() if fetch.asked_at_s is None]
        return [self._ask(sha256, fetch, at_s) for sha256, fetch in waiting[: max(0, MAX_ACTIVE - active)]]

    def _ask(self, sha256: str, fetch: _Fetch, at_s: float) -> Instruction:
        assert self._up is not None, "nothing is fetched without a node above"
        fetch.asked_at_s = at_s
        return self._up.control(ChunkQuery(sha256=sha256, offset=fetch.num_received), at_s)

    def _wrong(self, sha256: str, fetch: _Fetch, what: str, at_s: float) -> list[Instruction]:
        """The bytes are not the file's: once more from the start, then give it up."""
        self.counters["wrong_files"] += 1
        if fetch.attempt < ATTEMPTS and self._up is not None and self._up.reachable(at_s):
            again = self._fetches[sha256] = _Fetch(fetch.num_bytes, fetch.patience, attempt=fetch.attempt + 1)
            return [self._ask(sha256, again, at_s)]
        self._end(sha256, Trouble(reason="corrupt", message=f"the node above sent file {sha256[:12]} wrong: {what}"))
        return self._start_more(at_s)

    def _end(self, sha256: str, trouble: Trouble | None) -> None:
        self._fetches.pop(sha256, None)
        self._ended.append((sha256, trouble))


def _due_s(fetch: _Fetch) -> float:
    return np.inf if fetch.keeping or fetch.asked_at_s is None else fetch.asked_at_s + fetch.patience.wait_s


def _bytes_of(parcel: Parcel) -> bytes | None:
    """The one uint8 tensor of a chunk; None for anything else."""
    if parcel.codec != IDENTITY or len(parcel.specs) != 1 or parcel.specs[0].dtype != "uint8":
        return None
    data = bytes(parcel.frames[0])
    return data if parcel.specs[0].shape == (len(data),) else None
