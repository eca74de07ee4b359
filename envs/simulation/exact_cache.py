"""A node's cache of answers in N environments, as runtime/protocol uses runtime/inference/cache: equal inputs only.

A look-up is a hit when an earlier request brought the same input, asked the same of it, was computed, was answered by
then, and its answer is neither too old nor pushed out by more recently used ones.  Inputs and questions are one number.

Simplified: looks do not wait for one another.  Similar inputs and other forms of the model (`max_distance`, `any_form`)
never serve here, and a perturbed picture equals no other.
"""

from __future__ import annotations

import numpy as np

from envs.simulation.episodes import Given
from envs.simulation.reuse import CacheSetup
from envs.simulation.rows import Requests

_NO_KEY = -1


class ExactCache:
    """What N caches remember; rows are requests, columns environments.

    Where everything that an episode computes fits, nothing loops over environments; a smaller cache is slower.
    """

    def __init__(self, requests: Requests, setup: CacheSetup) -> None:
        self._setup, self._requests, self._num_requests = setup, requests, requests.num_requests
        self._ttl_s, self._capacity = setup.config.ttl_s, setup.capacity
        self._all_columns = np.arange(requests.num_envs)

    def start(self) -> None:
        """Nothing is remembered."""
        shape = (self._num_requests, self._requests.num_envs)
        self._keys = np.full(shape, _NO_KEY, dtype=np.int64)
        self._known = np.zeros(shape, dtype=bool)
        """Whether the request's own answer is in the cache."""
        self._stored_s, self._used_s = np.zeros(shape), np.zeros(shape)
        self._num_brought = 0

    def bring(self, index: int, given: np.ndarray, actions: np.ndarray) -> None:
        """Request `index` of every environment is decided, `actions` [N]: what it may be looked up by.  `given` as of Playing."""
        keys = self._setup.questions[actions] * self._setup.num_examples + given[Given.example].astype(np.int64)
        keys[given[Given.perturbed] > 0] = _NO_KEY - 1 - index  # its own, for it takes room like any other
        self._keys[index] = keys
        self._num_brought = index + 1

    def look_up(self, entries: np.ndarray, at_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bool [n]: hit or miss of these entries at `at_s`; int64: the entries whose answers serve the hits)."""
        rows, columns, upto = self._requests.request(entries), entries & self._requests.env_mask, self._num_brought
        keys = self._keys[rows, columns]
        place = slice(None) if np.array_equal(columns, self._all_columns) else columns
        stored_s = self._stored_s[:upto, place]
        serves = self._known[:upto, place] & (self._keys[:upto, place] == keys) & (stored_s + self._ttl_s > at_s)
        hit: np.ndarray = serves.any(axis=0)
        if not hit.any():
            return hit, np.empty(0, dtype=np.int64)
        sources, columns = np.where(serves, stored_s, -np.inf).argmax(axis=0)[hit], columns[hit]
        self._keys[rows[hit], columns] = _NO_KEY  # what was served from the cache is not stored again
        self._used_s[sources, columns] = at_s[hit]
        return hit, self._requests.entry(sources, columns)

    def store(self, entries: np.ndarray, at_s: np.ndarray) -> None:
        """The answers of these entries are here, at `at_s`; those that were served from the cache are not kept again."""
        rows, columns = self._requests.request(entries), entries & self._requests.env_mask
        kept = self._keys[rows, columns] != _NO_KEY
        rows, columns, at_s = rows[kept], columns[kept], at_s[kept]
        self._stored_s[rows, columns] = self._used_s[rows, columns] = at_s
        if self._capacity >= self._num_requests:
            self._known[rows, columns] = True
            return
        for place in np.argsort(at_s, kind="stable").tolist():
            self._put(int(rows[place]), int(columns[place]), float(at_s[place]))

    def _put(self, row: int, column: int, at_s: float) -> None:
        """Store one answer in place of an older one, and drop the least recently used if there is no room."""
        known = self._known[:, column]
        known &= (self._stored_s[:, column] + self._ttl_s > at_s) & (self._keys[:, column] != self._keys[row, column])
        known[row] = self._capacity > 0
        if np.count_nonzero(known) > self._capacity:
            known[np.where(known, self._used_s[:, column], np.inf).argmin()] = False

    def save(self) -> tuple[np.ndarray, ...]:
        """All that looking up and storing change."""
        return tuple(array[: self._num_brought].copy() for array in (self._keys, self._known, self._stored_s, self._used_s))

    def restore(self, saved: tuple[np.ndarray, ...]) -> None:
        """Take back what happened since `save`; nothing was brought meanwhile."""
        for array, before in zip((self._keys, self._known, self._stored_s, self._used_s), saved, strict=True):
            array[: self._num_brought] = before
