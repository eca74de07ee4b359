"""First come first served at many servers at once: Lindley's recursion, turn by turn.

Turn j holds the j-th arrival at every server, so a turn is two or three operations on arrays, however many servers
there are; there are as many turns as arrivals at the most crowded server.

    begin_i = max(arrive_i, end_{i-1})        end_i = begin_i + work_i

Source: Lindley, Proc. Cambridge Phil. Soc. 1952, section 2.
"""

from __future__ import annotations

import numpy as np


class Line:
    """Arrivals at many servers: who comes in which turn."""

    def __init__(self, servers: np.ndarray, arrive_s: np.ndarray) -> None:
        """Arrivals [n] in any order: the server and the time of each."""
        self.order: np.ndarray | slice = slice(None)
        """Puts arrivals into order of server, then of time; as they are when nobody shares a server."""
        self.servers = servers
        """In that order."""
        self.crowded = len(servers) > 1 and bool(np.bincount(servers).max() > 1)
        if self.crowded:
            self.order = np.lexsort((arrive_s, servers))
            self.servers = servers = servers[self.order]
            fresh = np.empty(len(servers), dtype=bool)
            fresh[0] = True
            np.not_equal(servers[1:], servers[:-1], out=fresh[1:])
            first = fresh.nonzero()[0]
            group = fresh.cumsum() - 1
            turn = np.arange(len(servers)) - first[group]
            self._shape = int(turn.max()) + 1, len(first)
            self._place = turn * len(first) + group
            self._groups, self._first = servers[first], first

    def previous(self, values: np.ndarray, initial: np.ndarray) -> np.ndarray:
        """[n] the value of the arrival before at the same server, in `order`; for the first one `initial` [servers]."""
        before: np.ndarray = initial[self.servers]
        if not self.crowded:
            return before
        before[1:] = values[:-1]
        before[self._first] = initial[self._groups]
        return before

    def begin(self, arrive: np.ndarray, work: np.ndarray, busy: np.ndarray) -> np.ndarray:
        """When each is begun, [n] in `order`; `busy` [servers], until when servers are busy before these, is brought up to date.

        Any unit of work will do, not only seconds.
        """
        if not self.crowded:
            at_once: np.ndarray = np.maximum(arrive, busy[self.servers])
            busy[self.servers] = at_once + work
            return at_once
        turns, works = self._turns(arrive), self._turns(work)
        free = busy[self._groups]
        for turn, turn_work in zip(turns, works, strict=True):
            np.maximum(turn, free, out=turn)
            free = turn + turn_work
        busy[self._groups] = free
        begin: np.ndarray = turns.ravel()[self._place]
        return begin

    def serve(self, arrive: np.ndarray, work: np.ndarray, busy: np.ndarray, expires: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(begin, end) as in `begin`, where work that would begin at its expiry or later is dropped: it ends when it would have begun."""
        if not self.crowded:
            begin = np.maximum(arrive, busy[self.servers])
            busy[self.servers] = end = begin + work * (begin < expires)
            return begin, end
        turns, works, limits = self._turns(arrive), self._turns(work), self._turns(expires)
        free = busy[self._groups]
        for turn, turn_work, limit in zip(turns, works, limits, strict=True):
            np.maximum(turn, free, out=turn)
            turn_work *= turn < limit
            turn_work += turn
            free = turn_work
        busy[self._groups] = free
        return turns.ravel()[self._place], works.ravel()[self._place]

    def _turns(self, values: np.ndarray) -> np.ndarray:
        """[turns, servers]; who does not come arrives at time 0 with no work and so changes nothing."""
        turns = np.zeros(self._shape)
        turns.ravel()[self._place] = values
        return turns
