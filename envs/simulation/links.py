"""How fast payloads leave, for N environments at once: the arithmetic of runtime/links.py's RateTrace, vectorised.

A trace is piecewise constant on a grid, so the bytes that could have been sent by an instant are piecewise
linear in it.  In units of bytes a link is a server of constant pace, whatever its rate does: queueing happens
there (envs/simulation/queueing.py), and only when a payload has left is turned back into seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from runtime.rates import GRID_S, ConstantRate, RateConfig, draw_trace


class Pace(Protocol):
    """One direction of a link in N environments."""

    def select(self, episodes: np.ndarray) -> None:
        """Environment n follows the trace of pooled episode `episodes[n]` from now on."""

    def bytes_by(self, at_s: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """Bytes that could have been sent in [0, at_s), [n]."""

    def time_of(self, num_bytes: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """Inverse of `bytes_by`, [n]."""

    def rate_at(self, at_s: np.ndarray, envs: np.ndarray) -> np.ndarray | float:
        """Bytes per second at these instants, [n] or one for all."""


class ConstantPace:
    """The same rate always."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s

    def select(self, episodes: np.ndarray) -> None:
        """All episodes are alike."""

    def bytes_by(self, at_s: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """See Pace."""
        num_bytes: np.ndarray = at_s * self._bytes_per_s
        return num_bytes

    def time_of(self, num_bytes: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """See Pace."""
        at_s: np.ndarray = num_bytes / self._bytes_per_s
        return at_s

    def rate_at(self, at_s: np.ndarray, envs: np.ndarray) -> float:
        """The rate."""
        return self._bytes_per_s


class TracePace:
    """A rate that follows a trace and starts again after its end.  `traces`: [P, T] bytes per second.

    `time_of` looks into a table of equal steps in bytes for the cell to begin at, and walks on from there.
    """

    _STEPS_PER_CELL = 2
    _WALK = 3
    """Cells to walk before the few that have not arrived (slow cells are many per step) are searched for."""

    def __init__(self, traces: np.ndarray) -> None:
        num, self._num_cells = traces.shape
        sent = np.cumsum(traces * GRID_S, axis=1)
        self._totals = sent[:, -1].copy()
        before = np.concatenate([np.zeros((num, 1)), sent[:, :-1]], axis=1)
        begin_s = np.tile(np.arange(self._num_cells) * GRID_S, num)
        self._cells = np.stack([before.ravel(), traces.ravel(), begin_s], axis=1)
        """[P * T, 3]: bytes sent before the cell, rate in it, when it begins."""
        self._num_steps = self._num_cells * self._STEPS_PER_CELL
        steps = np.maximum(np.arange(self._num_steps + 1) - 1, 0) / self._num_steps  # one back: never beyond the cell
        self._table = np.concatenate([row.searchsorted(steps * row[-1], side="right") + self._num_cells * i for i, row in enumerate(sent)])
        sent[:, -1] = np.inf  # nobody walks on to the next trace
        self._after = sent.ravel()
        self._period_s = self._num_cells * GRID_S
        self.select(np.zeros(1, dtype=np.int64))

    def select(self, episodes: np.ndarray) -> None:
        """See Pace."""
        self._first = episodes * self._num_cells
        self._table_first = episodes * (self._num_steps + 1)
        self._total = self._totals[episodes]
        self._steps_per_byte = self._num_steps / self._total
        self._least_total = float(self._total.min())

    def bytes_by(self, at_s: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """See Pace."""
        if len(at_s) and at_s.max() >= self._period_s:
            periods = np.floor(at_s / self._period_s)
            in_all: np.ndarray = periods * self._total[envs] + self._bytes_within(at_s - periods * self._period_s, envs)
            return in_all
        return self._bytes_within(at_s, envs)

    def _bytes_within(self, at_s: np.ndarray, envs: np.ndarray) -> np.ndarray:
        cell = np.minimum((at_s / GRID_S).astype(np.int64), self._num_cells - 1)
        cell += self._first[envs]
        before, rate, begin_s = self._cells.take(cell, axis=0).T
        num_bytes: np.ndarray = before + (at_s - begin_s) * rate
        return num_bytes

    def time_of(self, num_bytes: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """See Pace."""
        if len(num_bytes) and num_bytes.max() >= self._least_total:
            total = self._total[envs]
            periods = np.floor(num_bytes / total)
            in_all: np.ndarray = periods * self._period_s + self._time_within(num_bytes - periods * total, envs)
            return in_all
        return self._time_within(num_bytes, envs)

    def _time_within(self, num_bytes: np.ndarray, envs: np.ndarray) -> np.ndarray:
        step = (num_bytes * self._steps_per_byte[envs]).astype(np.int64)
        step += self._table_first[envs]
        cell = self._table[step]
        for _ in range(self._WALK):
            cell += self._after[cell] <= num_bytes
        far = self._after[cell] <= num_bytes
        if np.count_nonzero(far):
            self._search(cell, far.nonzero()[0], num_bytes)
        before, rate, begin_s = self._cells.take(cell, axis=0).T
        at_s: np.ndarray = begin_s + (num_bytes - before) / rate
        return at_s

    def _search(self, cell: np.ndarray, far: np.ndarray, num_bytes: np.ndarray) -> None:
        """Correct the cells at indices `far`."""
        for index in far.tolist():
            first = cell[index] // self._num_cells * self._num_cells
            cell[index] = first + self._after[first : first + self._num_cells].searchsorted(num_bytes[index], side="right")

    def rate_at(self, at_s: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """See Pace."""
        rate: np.ndarray = self._cells[self._first[envs] + (at_s / GRID_S).astype(np.int64) % self._num_cells, 1]
        return rate


def draw_pace(config: RateConfig, seeds: Sequence[int], link: str, direction: str) -> Pace:
    """One trace per pooled episode; nothing is drawn for a constant rate."""
    if isinstance(config, ConstantRate):
        return ConstantPace(config.bytes_per_s)
    return TracePace(np.array([draw_trace(config, seed, link, direction) for seed in seeds]))
