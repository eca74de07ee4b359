"""The device's cache of answers in N environments, as runtime/protocol uses runtime/inference/cache: equal inputs only.

A request is a hit when an earlier one brought the same picture, asked the same of it, was computed, was answered by
the new one's arrival, and its answer is neither too old nor pushed out by more recently used ones.

Simplified: what comes while an input is looked at comes too late, and looks do not wait for one another.  Similar inputs
and other forms of the model (`max_distance`, `any_form`) never serve here, and a perturbed picture equals no other.
"""

from __future__ import annotations

import numpy as np

from envs.simulation.episodes import Given
from envs.simulation.rows import Requests, Row
from envs.simulation.setup import Setup

_NO_KEY = -1


class DeviceCache:
    """What each of N devices remembers; rows are requests, columns environments.

    Where everything that an episode computes fits, nothing loops over environments; a smaller cache is slower.
    """

    def __init__(self, setup: Setup, requests: Requests) -> None:
        assert setup.device_cache is not None
        self._setup, self._requests = setup, requests
        self._ttl_s, self._capacity = setup.device_cache.ttl_s, setup.cache_capacity
        self._num_requests = setup.scenario.workload.num_requests
        self._columns = np.arange(requests.num_envs)

    def start(self) -> None:
        """Every device remembers nothing."""
        shape = (self._num_requests, self._requests.num_envs)
        self._keys = np.full(shape, _NO_KEY, dtype=np.int64)
        self._known = np.zeros(shape, dtype=bool)
        """Whether the request's own answer is in the cache."""
        self._stored_s, self._used_s = np.zeros(shape), np.zeros(shape)

    def look_up(self, index: int, given: np.ndarray, actions: np.ndarray, refused: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bool [N]: hit or miss of request `index`; int64: the entries whose answers serve the hits)."""
        now_s = given[Given.arrival_s]
        keys = self._setup.questions[actions] * self._setup.answers.num_examples + given[Given.example].astype(np.int64)
        keys[given[Given.perturbed] > 0] = _NO_KEY - 1 - index  # its own, for it takes room like any other
        keys[refused] = _NO_KEY
        serves = self._known[:index] & (self._keys[:index] == keys) & (self._stored_s[:index] + self._ttl_s > now_s)
        hit = serves.any(axis=0)
        self._keys[index] = np.where(hit, _NO_KEY, keys)  # what was served from the cache is not stored again
        if not hit.any():
            return hit, np.empty(0, dtype=np.int64)
        sources = np.where(serves, self._stored_s[:index], -np.inf).argmax(axis=0)[hit]
        columns = self._columns[hit]
        self._used_s[sources, columns] = now_s[hit]
        return hit, self._requests.entry(sources, columns)

    def store(self, answered: np.ndarray) -> None:
        """These entries have been answered in time."""
        rows, columns = self._requests.request(answered), answered & self._requests.env_mask
        computed = self._keys[rows, columns] != _NO_KEY
        rows, columns, end_s = rows[computed], columns[computed], self._requests.table[Row.end_s][answered[computed]]
        self._stored_s[rows, columns] = self._used_s[rows, columns] = end_s
        if self._capacity >= self._num_requests:
            self._known[rows, columns] = True
            return
        for place in np.argsort(end_s, kind="stable").tolist():
            self._put(int(rows[place]), int(columns[place]), float(end_s[place]))

    def _put(self, row: int, column: int, at_s: float) -> None:
        """Store one answer in place of an older one, and drop the least recently used if there is no room."""
        known = self._known[:, column]
        known &= (self._stored_s[:, column] + self._ttl_s > at_s) & (self._keys[:, column] != self._keys[row, column])
        known[row] = self._capacity > 0
        if np.count_nonzero(known) > self._capacity:
            known[np.where(known, self._used_s[:, column], np.inf).argmin()] = False
