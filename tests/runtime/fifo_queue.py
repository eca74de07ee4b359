"""The oracle of a node's queue with one tenant: first come first served, bounded, and nothing else."""

from __future__ import annotations

from collections import deque

from runtime.protocol.events import Run, RunMeasure


class FifoQueue:
    """Pure bookkeeping; whoever owns it hands the jobs to the worker."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Run | RunMeasure, float, float]] = deque()
        self._waiting_s = 0.0
        self._running: tuple[float, float] | None = None

    def offer(self, job: Run | RunMeasure, expected_s: float, expires_at_s: float) -> bool:
        """Append a job that should take `expected_s`; False when the queue is full."""
        if len(self._waiting) >= self._max_waiting:
            return False
        self._waiting.append((job, expected_s, expires_at_s))
        self._waiting_s += expected_s
        return True

    def start_next(self, at_s: float) -> tuple[Run | RunMeasure | None, list[Run | RunMeasure]]:
        """If the worker is idle: the next job that has not expired, now running; and those that had."""
        expired: list[Run | RunMeasure] = []
        while self._running is None and self._waiting:
            job, expected_s, expires_at_s = self._waiting.popleft()
            self._waiting_s -= expected_s
            if at_s >= expires_at_s:
                expired.append(job)
                continue
            self._running = (at_s, expected_s)
            return job, expired
        return None, expired

    def finished(self) -> None:
        """The running job is done."""
        self._running = None

    def clear_waiting(self) -> None:
        """Drop all that wait; the running job runs out."""
        self._waiting.clear()
        self._waiting_s = 0.0

    @property
    def num_waiting(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def backlog_s(self, at_s: float) -> float:
        """Expected seconds until all accepted work is done."""
        rest_s = 0.0
        if self._running is not None:
            started_at_s, expected_s = self._running
            rest_s = max(0.0, expected_s - (at_s - started_at_s))
        return max(0.0, self._waiting_s) + rest_s
