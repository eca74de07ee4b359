"""Model files over slow links, in virtual time: a node that fetches and one that has them, real messages on emulated links."""

from __future__ import annotations

import heapq
import itertools
import math

import pytest

from runtime.codec import unseal
from runtime.links import EmulatedLink
from runtime.messages import CHUNK_BYTES, MAX_FILE_BYTES, Chunk, ChunkQuery, NotHere
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import FileKept, Instruction, KeepFile, PartRead, ReadPart, Send
from runtime.protocol.fetching import ASK_AGAIN_S, MAX_ACTIVE, Fetching
from runtime.protocol.sharing import Sharing
from runtime.rates import ConstantRate
from tests.runtime.distribution_helpers import sha256
from tests.runtime.protocol_helpers import sent

DELAY_S = 0.005
FILE_BYTES = 1_000_000
NUM_FILES = 4


class Shop:
    """The two nodes.  Reading and keeping take no time; every message takes the link."""

    def __init__(self, bytes_per_s: float) -> None:
        up = Connection(EmulatedLink(ConstantRate(), DELAY_S, 0.0, "uplink", "up"), 0.1, math.inf)
        up.heard(0.0)
        self.fetching = Fetching(up)
        down = Downstream(lambda: EmulatedLink(ConstantRate(bytes_per_s=bytes_per_s), DELAY_S, 0.0, "uplink", "down"))
        down.is_node(b"device", 0.0)
        self._sharing = Sharing({}, None, down, Fetching(None))
        self._sends: list[tuple[float, int, Send]] = []
        self._order = itertools.count()
        self.num_kept, self.chunk_bytes = 0, 0

    def perform(self, out: list[Instruction], at_s: float) -> None:
        for item in out:
            match item:
                case Send():
                    heapq.heappush(self._sends, (item.release_at_s, next(self._order), item))
                case KeepFile(sha256=name):
                    self.num_kept += 1
                    self.perform(self.fetching.on_kept(FileKept(sha256=name, at_s=at_s)), at_s)
                case ReadPart(offset=offset):
                    data = bytes(min(CHUNK_BYTES, FILE_BYTES - offset))
                    self.chunk_bytes += len(data)
                    self.perform(self._sharing.on_part_read(PartRead(part=item, at_s=at_s, data=data, num_bytes=FILE_BYTES)), at_s)

    def fetch_all(self) -> float:
        """When the last of the files is here."""
        at_s = 0.0
        for index in range(NUM_FILES):
            self.perform(self.fetching.want(sha256(bytes([index])), FILE_BYTES, at_s), at_s)
        while self.num_kept < NUM_FILES:
            at_s = min(self._sends[0][0] if self._sends else math.inf, self.fetching.next_tick_at_s)
            if not self._sends or self._sends[0][0] > at_s:
                self.perform(self.fetching.tick(at_s), at_s)
                continue
            message, parcel = unseal(heapq.heappop(self._sends)[2].frames)
            if isinstance(message, ChunkQuery):
                self.perform(self._sharing.on_chunk_query(b"device", message), at_s)
            elif isinstance(message, Chunk):
                self.perform(self.fetching.on_chunk(message, parcel, at_s), at_s)
        return at_s


@pytest.mark.parametrize(("bytes_per_s", "more"), [(1.5e6, 0.02), (1e5, 0.05), (6e4, 0.15), (3e4, 0.3)])
def test_a_slow_link_carries_little_but_what_is_needed(bytes_per_s: float, more: float) -> None:
    """Four files at once: a chunk takes up to 9 s then, longer than a question waits at first, and that is learned from the first ones."""
    shop, needed_bytes = Shop(bytes_per_s), NUM_FILES * FILE_BYTES
    assert shop.fetch_all() < (1 + more) * needed_bytes / bytes_per_s
    assert shop.chunk_bytes < (1 + more) * needed_bytes


def test_a_chunk_that_never_comes_is_asked_for_less_and_less() -> None:
    """After 2 s, 4 more, 8 more: by hand."""
    fetching = Shop(1e6).fetching
    fetching.want(sha256(b"x"), FILE_BYTES, 1.0)
    asked_at_s = []
    for _ in range(3):
        asked_at_s.append(fetching.next_tick_at_s)
        (query,) = sent(fetching.tick(fetching.next_tick_at_s), "up")
        assert query == ChunkQuery(sha256=sha256(b"x"), offset=0)
    assert asked_at_s == [1.0 + ASK_AGAIN_S, 1.0 + 3 * ASK_AGAIN_S, 1.0 + 7 * ASK_AGAIN_S]


def test_files_wait_for_their_turn() -> None:
    """A slow link is no reason to begin more of them."""
    shop = Shop(1e5)
    queries = [query for index in range(MAX_ACTIVE + 2) for query in sent(shop.fetching.want(sha256(bytes([index])), None, 0.0), "up")]
    assert len(queries) == MAX_ACTIVE


def test_a_file_that_is_too_large_to_be_distributed_is_refused() -> None:
    """Whoever asks hears so, and the node goes on."""
    sharing = Sharing({}, None, Downstream(None), Fetching(None))
    part = ReadPart(peer=b"device", sha256=sha256(b"x"), offset=0)
    out = sharing.on_part_read(PartRead(part=part, at_s=1.0, data=bytes(CHUNK_BYTES), num_bytes=MAX_FILE_BYTES + 1))
    (answer,) = sent(out, "down")
    assert isinstance(answer, NotHere)
    assert (answer.name, answer.reason) == (sha256(b"x"), "storage")
