"""Answers kept for inputs that come again, the same or nearly the same.

    lookup    exact digest under each acceptable question  ->  nearest sketch within the bound  ->  miss
    store     the answer that was computed; never one that was served from here, so errors do not breed
    leave     lifetime over, budget needed, replaced by a newer answer, or invalidated

One budget and one order of use for all tenants and models; one index per question, so nothing crosses them.
Source: after Guo et al., "FoggyCache: cross-device approximate computation reuse", MobiCom 2018, with brute force in
place of its hashing and one neighbour in place of its vote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np

from runtime.errors import InvalidInput
from runtime.inference.cache.counters import CacheCounters
from runtime.inference.cache.fingerprint import DIGEST_BYTES, Fingerprint
from runtime.inference.cache.index import HammingIndex
from runtime.inference.cache.lru import LruStore
from runtime.inference.cache.question import Question

ENTRY_OVERHEAD_BYTES = 2048
"""Interpreter objects of one entry: a test holds it above what tracemalloc measures."""
TENSOR_OVERHEAD_BYTES = 256
"""The same for one more tensor of an answer."""
SKETCH_ROOM = 4
"""An index holds at most this many times the sketches' own bytes, besides the entry's copy."""

_Key = tuple[Question, bytes]


class CacheConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is kept, how long, and what counts as similar."""

    max_bytes: int = 16 << 20
    """All entries together: answers, keys, sketches and the objects that hold them."""
    ttl_s: float = 60.0
    """Lifetime of an answer."""
    max_distance: int | None = None
    """Bits in which a similar input's sketch may differ; None serves equal inputs only.  `calibrate_distance` finds it."""
    any_form: bool = False
    """Whether the answer of another variant or exit may serve that was measured no less accurate (`acceptable`)."""

    def __post_init__(self) -> None:
        if self.max_bytes < 0 or not self.ttl_s > 0 or (self.max_distance is not None and self.max_distance < 0):
            raise ValueError(
                f"a cache needs max_bytes >= 0, ttl_s > 0 and max_distance >= 0 or none, "
                f"got {self.max_bytes}, {self.ttl_s} and {self.max_distance}"
            )


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An answer from the cache."""

    tensors: tuple[np.ndarray, ...]
    """Read-only."""
    kind: Literal["exact", "similar"]
    distance: int
    """Bits between the sketches; 0 for an exact hit."""
    question: Question
    """What the answer was computed for: the question asked, or an acceptable one."""


class _Entry(msgspec.Struct, frozen=True):
    tensors: tuple[np.ndarray, ...]


class ResultCache:
    """Answers by input and question, within a budget.  Not thread-safe: it lives where the node's state lives."""

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self._store: LruStore[_Key, _Entry] = LruStore(config.max_bytes, config.ttl_s)
        self._indices: dict[Question, HammingIndex[bytes]] = {}
        self._counts = dict.fromkeys(CacheCounters.__struct_fields__, 0)

    def __len__(self) -> int:
        return len(self._store)

    @property
    def num_bytes(self) -> int:
        """Bytes of the budget in use."""
        return self._store.num_bytes

    def counters(self) -> CacheCounters:
        """Totals since the start."""
        return CacheCounters(**self._counts)

    def lookup(self, questions: Sequence[Question], key: Fingerprint, at_s: float) -> Hit | None:
        """An answer to any of these questions (`acceptable`), equal inputs before similar ones, earlier questions first."""
        self._expire(at_s)
        hit = self._exact(questions, key.digest) or self._similar(questions, key.sketch)
        self._counts["misses" if hit is None else f"hits_{hit.kind}"] += 1
        return hit

    def store(self, question: Question, key: Fingerprint, tensors: Sequence[np.ndarray], at_s: float) -> bool:
        """Keep a computed answer, in place of an older one; False when it alone exceeds the budget.

        Raises InvalidInput for a digest or sketch of another length than the others.
        """
        self._check(question, key)
        self._expire(at_s)
        place = (question, key.digest)
        if self._store.remove(place):
            self._left([place], "replaced")
        num_bytes = entry_bytes(question, key, tensors)
        if num_bytes > self._config.max_bytes:
            self._counts["refused"] += 1
            return False
        self._left(self._store.put(place, _Entry(tuple(_frozen(tensor) for tensor in tensors)), num_bytes), "budget")
        if key.sketch is not None:
            self._indices.setdefault(question, HammingIndex(len(key.sketch))).add(key.digest, key.sketch)
        self._counts["stored"] += 1
        return True

    def invalidate(self, *, tenant: str | None = None, model: str | None = None, version: str | None = None) -> int:
        """Drop every answer of this tenant, model and version, each if given (none given: everything); how many."""
        wanted = {"tenant": tenant, "model": model, "version": version}
        given = {name: value for name, value in wanted.items() if value is not None}
        gone = [place for place in self._store if all(getattr(place[0], name) == value for name, value in given.items())]
        for place in gone:
            self._store.remove(place)
        self._left(gone, "invalidated")
        return len(gone)

    def _exact(self, questions: Sequence[Question], digest: bytes) -> Hit | None:
        for question in questions:
            entry = self._store.get((question, digest))
            if entry is not None:
                return Hit(tensors=entry.tensors, kind="exact", distance=0, question=question)
        return None

    def _similar(self, questions: Sequence[Question], sketch: bytes | None) -> Hit | None:
        bound = self._config.max_distance
        if sketch is None or bound is None:
            return None
        best: tuple[Question, bytes, int] | None = None
        for question in questions:
            index = self._indices.get(question)
            found = index.nearest(sketch, bound if best is None else best[2] - 1) if index else None
            if found is not None:
                best = (question, *found)
        if best is None:
            return None
        entry = self._store.get(best[:2])
        assert entry is not None, "an index holds only what the store holds"
        return Hit(tensors=entry.tensors, kind="similar", distance=best[2], question=best[0])

    def _check(self, question: Question, key: Fingerprint) -> None:
        if len(key.digest) != DIGEST_BYTES:
            raise InvalidInput(f"a digest has {DIGEST_BYTES} bytes, got {len(key.digest)}; use fingerprint()")
        index = self._indices.get(question)
        if index is not None and key.sketch is not None and len(key.sketch) != index.num_bytes:
            raise InvalidInput(f"sketches of this question have {index.num_bytes} bytes, got {len(key.sketch)}; use one Sketcher")

    def _expire(self, at_s: float) -> None:
        self._left(self._store.expire(at_s), "expired")

    def _left(self, places: Iterable[_Key], reason: Literal["expired", "budget", "replaced", "invalidated"]) -> None:
        """Entries have left the store: count them and clear their indices."""
        for question, digest in places:
            self._counts[f"evicted_{reason}"] += 1
            index = self._indices.get(question)
            if index is not None:
                index.remove(digest)
                if not len(index):
                    del self._indices[question]


def entry_bytes(question: Question, key: Fingerprint, tensors: Sequence[np.ndarray]) -> int:
    """What an entry counts against the budget: its answer, key, sketch (with the index's room) and objects."""
    sketch_bytes = SKETCH_ROOM * len(key.sketch or b"")
    answer_bytes = sum(tensor.nbytes + TENSOR_OVERHEAD_BYTES for tensor in tensors)
    return ENTRY_OVERHEAD_BYTES + question.num_bytes + key.num_bytes + sketch_bytes + answer_bytes


def _frozen(tensor: np.ndarray) -> np.ndarray:
    """A read-only copy of its own: the caller's array may be a view of something large, or be written to."""
    copy = np.array(tensor, order="C")
    copy.flags.writeable = False
    return copy
