"""The neighbours' jobs at the edge, exactly and without stepping through them.

All jobs take m seconds, so a run of them is known in closed form.  Let b_i be their arrivals and

    alone(j) = max over i < j of (b_i + (j - i) m)        done with the first j jobs, had they the edge to themselves

If the edge is done at time f with everything that arrived before job i, f >= alone(i), then jobs i..j-1 are done at

    max(f + (j - i) m, alone(j))                          Lindley's recursion, unrolled (max-plus)

because paths of alone(j) that begin before i are below f + (j - i) m.  Own requests only ever delay jobs,
so f >= alone(i) always holds.  Counting time without the jobs' own, as f - i m, turns this into
max(f - i m, alone(j) - j m): a queue of own requests only, whose arrivals wait for alone(j).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BUCKETS_PER_JOB = 4


class Background:
    """Jobs of P pooled episodes, looked up by N environments.  `arrivals_s`: rising arrays, one per episode."""

    def __init__(self, arrivals_s: Sequence[np.ndarray], service_s: float) -> None:
        self.service_s = service_s
        num, most = len(arrivals_s), max(len(times) for times in arrivals_s)
        self._last_s = max((float(times[-1]) for times in arrivals_s if len(times)), default=0.0)
        self._width = most + 1
        padded = np.full((num, self._width), np.inf)
        for row, times in zip(padded, arrivals_s, strict=True):
            row[: len(times)] = times
        index = np.arange(most)
        alone_s = np.full((num, self._width), -np.inf)
        alone_s[:, 1:] = np.maximum.accumulate(padded[:, :most] - index * service_s, axis=1) + (index + 1) * service_s
        self._arrival_s = padded.ravel()
        self._work_and_alone_s = np.stack([np.tile(np.arange(self._width) * service_s, num), alone_s.ravel()], axis=1)
        self._make_buckets(arrivals_s)
        self.select(np.zeros(1, dtype=np.int64))

    def _make_buckets(self, arrivals_s: Sequence[np.ndarray]) -> None:
        """How many jobs came before each of many equal steps in time; from there it is a few jobs' walk."""
        self._num_buckets = _BUCKETS_PER_JOB * self._width
        self._buckets_per_s = self._num_buckets / (self._last_s + 1.0)
        edges_s = np.arange(self._num_buckets + 1) / self._buckets_per_s
        before = np.array([times.searchsorted(edges_s - 1e-9) for times in arrivals_s])  # 1e-9: rounding must not skip a job
        self._walk = int(np.diff(before, axis=1).max())
        self._before = (before + (np.arange(len(before)) * self._width)[:, None]).ravel()

    def select(self, episodes: np.ndarray) -> None:
        """Environment n has the jobs of pooled episode `episodes[n]` from now on."""
        self._bucket_first = episodes * (self._num_buckets + 1)

    def by(self, at_s: np.ndarray, envs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(work of the jobs that have come by these instants >= 0, when it would be done alone or -inf for none), seconds [n]."""
        job = (np.minimum(at_s, self._last_s) * self._buckets_per_s).astype(np.int64)
        job += self._bucket_first[envs]
        job = self._before[job]
        for _ in range(self._walk):
            come = self._arrival_s[job] <= at_s
            if not np.count_nonzero(come):
                break
            job += come
        work_s, alone_s = self._work_and_alone_s.take(job, axis=0).T
        return work_s, alone_s

    def all_by(self, at_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for all P episodes at rising instants, [P, R]."""
        rows = zip(self._arrival_s.reshape(-1, self._width), at_s, strict=True)
        jobs = np.array([times.searchsorted(instants, side="right") + row * self._width for row, (times, instants) in enumerate(rows)])
        work_s, alone_s = self._work_and_alone_s[jobs].transpose(2, 0, 1)
        return work_s, alone_s
