"""Least recently used entries within a byte budget and a lifetime.  The clock comes in as `at_s`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from runtime.errors import InvalidInput

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True, frozen=True)
class _Slot(Generic[V]):
    value: V
    num_bytes: int
    expires_at_s: float


class LruStore(Generic[K, V]):
    """Entries that leave when their lifetime is over or when newer use needs their bytes.

    A lifetime counts from `put`; use does not prolong it.  Instants may not run backwards: an earlier one counts as
    the latest so far.  Raises InvalidInput unless `max_bytes` >= 0 and `ttl_s` > 0.
    """

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        if max_bytes < 0 or not ttl_s > 0:
            raise InvalidInput(f"a store needs max_bytes >= 0 and ttl_s > 0, got {max_bytes} and {ttl_s}")
        self.max_bytes, self.ttl_s = max_bytes, ttl_s
        self.num_bytes = 0
        self._at_s = float("-inf")
        self._by_use: OrderedDict[K, _Slot[V]] = OrderedDict()
        self._by_age: OrderedDict[K, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_use)

    def __iter__(self) -> Iterator[K]:
        """Keys, the least recently used first."""
        return iter(self._by_use)

    def expire(self, at_s: float) -> list[K]:
        """Drop what has reached the end of its lifetime; the keys, oldest first."""
        self._at_s = max(self._at_s, at_s)
        gone: list[K] = []
        while self._by_age:
            oldest = next(iter(self._by_age))
            if self._by_use[oldest].expires_at_s > self._at_s:
                break
            self.remove(oldest)
            gone.append(oldest)
        return gone

    def get(self, key: K) -> V | None:
        """The value, which is now the most recently used; None when it is not there.  Call `expire` first."""
        slot = self._by_use.get(key)
        if slot is None:
            return None
        self._by_use.move_to_end(key)
        return slot.value

    def put(self, key: K, value: V, num_bytes: int) -> list[K]:
        """Add an entry at the instant of the last `expire`, and drop others to fit; the keys dropped for the budget.

        Raises InvalidInput when the entry alone exceeds the budget, or its key is still there (`remove` it first).
        """
        if num_bytes > self.max_bytes or key in self._by_use:
            raise InvalidInput(f"an entry of {num_bytes} bytes must be new and fit into {self.max_bytes} bytes")
        gone: list[K] = []
        while self.num_bytes + num_bytes > self.max_bytes:
            oldest = next(iter(self._by_use))
            self.remove(oldest)
            gone.append(oldest)
        self._by_use[key] = _Slot(value=value, num_bytes=num_bytes, expires_at_s=self._at_s + self.ttl_s)
        self._by_age[key] = None
        self.num_bytes += num_bytes
        return gone

    def remove(self, key: K) -> bool:
        """Drop an entry; whether it was there."""
        slot = self._by_use.pop(key, None)
        if slot is None:
            return False
        del self._by_age[key]
        self.num_bytes -= slot.num_bytes
        return True
