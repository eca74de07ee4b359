"""Requests of N environments as columns of one matrix, and the lists in which requests wait for their time.

Entry k * stride + n is request k of environment n; the stride is a power of two, so that an entry's environment
is its low bits.  All environments are at the same request, so those being decided are one slice.
"""

from __future__ import annotations

import numpy as np

from runtime.errors import InvalidConfig

MAX_ENTRIES = 4_000_000
"""More would take over a gigabyte."""

NOTHING: np.ndarray = np.empty(0, dtype=np.int64)


class Row:
    """Row indices of `Requests.table`.  Instants are seconds since the episode's start.

    Rows that are read together lie together.
    """

    # of the decision (envs/simulation/setup.py)
    device_s, counts, edge_s, cloud_s, on_edge, goes_on, uplink_bytes, wan_bytes = range(8)
    needs = slice(0, 8)
    # of the episode
    uplink_flight_s, wan_flight_s, uplink_return_s, wan_return_s, expires_s = range(8, 13)
    flights = slice(8, 12)
    # of what happens
    device_start_s, device_end_s, uplink_at_s, edge_at_s, edge_expires_s, edge_start_s, edge_end_s, edge_jobs_s = range(13, 21)
    wan_at_s, cloud_at_s, cloud_expires_s, cloud_start_s, cloud_end_s, down_at_s, wan_sending_s = range(21, 28)
    # (edge_jobs_s: work of the neighbours' jobs that came to the edge before it)
    # of the end: finish, the answer is there (-inf: refused); end, the outcome is, whatever it is
    unsent_bytes, arrival_s, sending_s, finish_s, end_s, cost, cost_if_answered = range(28, 35)
    outcome = slice(29, 35)
    num = 35


class Reuse:
    """Values of `Requests.reused`: what answers a request in place of computing."""

    none, device_cache, edge_cache, device_filter = range(4)


class Requests:
    """State of every request of the running episodes."""

    def __init__(self, num_requests: int, num_envs: int) -> None:
        self.num_requests, self.num_envs = num_requests, num_envs
        self._bits = max(num_envs - 1, 1).bit_length()
        self.env_mask = (1 << self._bits) - 1
        size = num_requests << self._bits
        if size > MAX_ENTRIES:
            raise InvalidConfig(f"{num_requests} requests in {num_envs} environments take {size} entries, at most {MAX_ENTRIES} fit")
        self.table = np.zeros((Row.num, size))
        self.way = np.zeros(size, dtype=np.int64)
        """The way that each goes (envs/ways.py)."""
        self.wrong = np.zeros(size)
        """Whether its answer is wrong, or how probably."""
        self.reused = np.zeros(size, dtype=np.int8)
        """As Reuse."""
        self._first = np.arange(num_envs)

    def at(self, index: int) -> slice:
        """Entries of request `index` of all environments."""
        first = index << self._bits
        return slice(first, first + self.num_envs)

    def entries(self, index: int) -> np.ndarray:
        """The same as a list."""
        return self._first + (index << self._bits)

    def entry(self, rows: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """Entries of these requests of these environments."""
        entries: np.ndarray = (rows << self._bits) | envs
        return entries

    def request(self, entries: np.ndarray) -> np.ndarray:
        """Request index of entries."""
        return entries >> self._bits


class Waiting:
    """Entries that wait, each until an instant of its own."""

    def __init__(self, requests: Requests) -> None:
        self._env_mask = requests.env_mask
        self.clear()

    def clear(self) -> None:
        """Nobody waits."""
        self.entries, self.at_s = NOTHING, np.empty(0)

    def add(self, entries: np.ndarray, at_s: np.ndarray) -> None:
        """Let entries wait until `at_s`."""
        if len(entries):
            self.entries = np.concatenate((self.entries, entries))
            self.at_s = np.concatenate((self.at_s, at_s))

    def due(self, until_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take out those whose instant is no later than `until_s` [N] of their environment: (entries, instants), order kept."""
        entries, at_s = self.entries, self.at_s
        if len(entries) == 0:
            return entries, at_s
        late = at_s > until_s[entries & self._env_mask]
        self.entries, self.at_s = entries[late], at_s[late]
        np.logical_not(late, out=late)
        return entries[late], at_s[late]
