"""The edge's cache in N environments: whoever comes is looked up first, and answers are kept when the edge has them.

    uplink --> look at the payload --> known: answer down
                                   --> unknown: edge CPU or wan, as ever; its answer is kept on its way down

What a look-up finds depends on answers that came while others waited, so time passes from look-up to look-up
(`next_s`), and not to the next arrival at once.  As in runtime/protocol a payload is known by its frames: the same
picture, variant, cut and codec.  It is looked up when it has been looked at; answers that the edge has too late to
pass on are not kept.
"""

from __future__ import annotations

import numpy as np

from envs.simulation.exact_cache import ExactCache
from envs.simulation.rows import Requests, Row, Waiting
from envs.simulation.setup import Setup


class EdgeCache:
    """What N edges remember, and who waits to be looked up."""

    def __init__(self, setup: Setup, requests: Requests) -> None:
        cache = setup.edge_cache
        assert cache is not None
        self._requests, self._setup, self._cache = requests, setup, cache
        self._answers = ExactCache(requests, cache)
        self._to_look_up, self._to_keep = self.lists = [Waiting(requests) for _ in range(2)]
        """Until they have been looked at; until the edge has their answers."""

    def start(self) -> None:
        """Nothing is remembered and nobody waits."""
        self._answers.start()
        for waiting in self.lists:
            waiting.clear()

    def bring(self, index: int, given: np.ndarray, actions: np.ndarray) -> None:
        """See ExactCache."""
        self._answers.bring(index, given, actions)

    def arrive(self, entries: np.ndarray, at_s: np.ndarray) -> None:
        """These have reached the edge."""
        self._to_look_up.add(entries, at_s + self._setup.edge_look_s(self._requests.table[Row.uplink_bytes][entries]))

    def answered(self, entries: np.ndarray, at_s: np.ndarray) -> None:
        """The edge has, or will have, the computed answers of these at `at_s`."""
        in_time = at_s < self._requests.table[Row.edge_expires_s][entries]
        self._to_keep.add(entries[in_time], at_s[in_time])

    def next_s(self, until_s: np.ndarray) -> np.ndarray | None:
        """[N] when somebody is looked up next, -inf where nobody is by `until_s`; None when that is everywhere."""
        envs, at_s = self._to_look_up.entries & self._requests.env_mask, self._to_look_up.at_s
        due = at_s <= until_s[envs]
        if not np.count_nonzero(due):
            return None
        next_s = np.full(self._requests.num_envs, np.inf)
        np.minimum.at(next_s, envs[due], at_s[due])
        return np.where(next_s < np.inf, next_s, -np.inf)

    def look_up(self, at_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(entries that are looked up by `at_s` [N] and have not expired, when, bool: hit or miss, the hits' sources)."""
        self._answers.store(*self._to_keep.due(at_s))
        entries, looked_s = self._to_look_up.due(at_s)
        alive = looked_s < self._requests.table[Row.edge_expires_s][entries]
        entries, looked_s = entries[alive], looked_s[alive]
        return entries, looked_s, *self._answers.look_up(entries, looked_s)

    def save(self) -> EdgeCacheState:
        """All that looking up changes, apart from the lists."""
        return self._answers.save(), self._requests.wrong.copy(), self._requests.reused.copy()

    def restore(self, state: EdgeCacheState) -> None:
        """Take back what happened since `save`."""
        answers, self._requests.wrong[:], self._requests.reused[:] = state
        self._answers.restore(answers)


EdgeCacheState = tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]
