"""Looking at inputs, for a node's cache and filter and for their difficulty: small ones on the poll loop, others in a thread beside it.

A thread of its own and not the compute worker: what a look-up saves is the waiting for that worker.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from runtime.codecs.parcel import unpack
from runtime.durations import Least
from runtime.errors import InvalidInput, MalformedMessage
from runtime.inference.cache import Fingerprint
from runtime.inference.cache.parcels import parcel_fingerprint
from runtime.inference.pictures import thumbnail
from runtime.protocol.events import Inspect, Inspected

LOOP_BYTES = 256 << 10
"""Inputs up to this size are looked at on the loop: digest and sketch of a 3 x 224 x 224 picture (150 kB) took 0.8 ms on
two shared x86 cores, less than `worker.QUICK_S`; those of 3 x 512 x 512 (786 kB) took 8 ms."""


class Inspector:
    """Carries Inspects out.  Its thread is started by the first job that needs one; `close` ends it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._looks = Least()
        self._jobs: queue.SimpleQueue[Inspect | None] = queue.SimpleQueue()
        self.done: deque[Inspected] = deque()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def is_quick(self, job: Inspect) -> bool:
        """Whether `inspect` may be called on the poll loop: the input is small, and no emulated tier is to be waited for."""
        return job.slowdown <= 1 and sum(len(frame) for frame in job.parcel.frames) <= LOOP_BYTES

    def submit(self, job: Inspect) -> None:
        """Queue a job; its event appears in `done`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="inspector", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        """Stop after the running job; safe to call twice."""
        self._stopping.set()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    def inspect(self, job: Inspect) -> Inspected:
        """Look here and now, taking as long as the emulated tier would."""
        started_at_s = time.perf_counter()
        seen, error = Seen(), ""
        try:
            seen = look(job)
            if job.slowdown > 1:
                self._pace(job, started_at_s)
        except (InvalidInput, MalformedMessage) as exc:
            error = str(exc)
        finished_at_s = time.perf_counter()
        return Inspected(
            request_id=job.request_id,
            parcel=job.parcel,
            started_at_s=started_at_s,
            finished_at_s=finished_at_s,
            at_s=finished_at_s,
            fingerprint=seen.fingerprint,
            thumbnail=seen.thumbnail,
            difficulty=seen.difficulty,
            error=error,
        )

    def _pace(self, job: Inspect, started_at_s: float) -> None:
        """Wait for the emulated tier, paced by the least that such a look took the host: its noise must not be multiplied."""
        what = (job.digest, job.sketcher is not None, job.thumbnail_side, job.difficulty is not None)
        key = (job.parcel.specs, job.parcel.codec, *what)
        least_s = self._looks.add(key, time.perf_counter() - started_at_s, lambda: _timed_look_s(job))
        self._stopping.wait(max(0.0, started_at_s + job.slowdown * least_s - time.perf_counter()))

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopping.is_set():
            self.done.append(self.inspect(job))
            self._wake()


class Seen(NamedTuple):
    """What was made of an input; nothing of what was not asked for."""

    fingerprint: Fingerprint | None = None
    thumbnail: np.ndarray | None = None
    difficulty: tuple[float, ...] = ()


def look(job: Inspect) -> Seen:
    """What the job asks for.  Raises InvalidInput for what is no picture where one is due, MalformedMessage."""
    fingerprint = parcel_fingerprint(job.parcel, job.sketcher) if job.digest else None
    if not job.thumbnail_side and job.difficulty is None:
        return Seen(fingerprint)
    (picture,) = unpack(job.parcel).tensors
    small = thumbnail(picture, job.thumbnail_side) if job.thumbnail_side else None
    return Seen(fingerprint, small, job.difficulty.predict(picture) if job.difficulty is not None else ())


def _timed_look_s(job: Inspect) -> float:
    started_at_s = time.perf_counter()
    look(job)
    return time.perf_counter() - started_at_s
