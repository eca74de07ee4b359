"""The threads beside a node's poll loop: one computes, one holds back what emulated links delay.

Both hand their results over through a deque and wake the loop; neither touches a socket.  What is known to take
less time than two hand-overs are worth is computed by the loop itself (`ComputeWorker.is_quick`).
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from runtime.codecs.parcel import IDENTITY, Parcel, Unpacked, pack, unpack
from runtime.durations import Least, Smoothed
from runtime.errors import DrlctlError, InvalidInput, MalformedMessage, SystemFailure
from runtime.inference.batching import affine_batch_s
from runtime.inference.early_exit import run_segment
from runtime.inference.engine import Engine
from runtime.inference.samples import sample
from runtime.protocol.events import Computed, ComputedBatch, MeasuredRun, Run, RunBatch, RunMeasure, Send

WARM_UP_RUNS = 3
QUICK_S = 2e-3
"""Handing a job to the thread and its result back costs 0.1 to 0.5 ms, a fifth of a job this long; a loop that is away
for so long delays a heartbeat by less than a link's jitter."""


Job = Run | RunBatch | RunMeasure
Done = Computed | ComputedBatch | MeasuredRun


class ComputeWorker:
    """Runs segments one after another in a thread of its own, and paces emulated tiers."""

    def __init__(self, engines: Mapping[str, Engine], wake: Callable[[], None]) -> None:
        self._engines, self._wake = engines, wake
        self._runs, self._codecs = Smoothed(), Least()
        self._busy_s, self._began_at_s = 0.0, 0.0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.done: deque[Done] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="compute", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; its event appears in `done`."""
        self._jobs.put(job)

    def is_quick(self, job: Job) -> bool:
        """Whether `perform` on the caller's own thread costs less than handing over: by earlier runs, and never when paced."""
        rows = job.rows if isinstance(job, RunBatch) else (job,)
        first = rows[0]
        return isinstance(first, Run) and first.slowdown <= 1 and self._runs.expected_s(_segment(first, len(rows)), QUICK_S) < QUICK_S

    def close(self) -> None:
        """Stop after the running job; safe to call twice."""
        self._stopping.set()
        self._jobs.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopping.is_set():
            self.done.append(self.perform(job))
            self._wake()

    def perform(self, job: Job) -> Done:
        """Do a job here and now."""
        self._began_at_s = time.perf_counter()
        try:
            match job:
                case Run():
                    return self.compute(job)
                case RunBatch():
                    return self.compute_batch(job)
                case RunMeasure():
                    return self._measure(job)
        finally:
            self._busy_s, self._began_at_s = self.busy_s(), 0.0

    def busy_s(self) -> float:
        """Seconds in which jobs have been done so far, the running one included; any thread may ask."""
        began_at_s = self._began_at_s
        return self._busy_s + (time.perf_counter() - began_at_s if began_at_s else 0.0)

    def compute(self, job: Run) -> Computed:
        """Decode, run and encode here and now, taking as long as the emulated tier would."""
        started_at_s = time.perf_counter()
        try:
            unpacked = unpack(job.parcel)
            answer = run_segment(self._engines[job.model], job.variant, job.start, job.stop, job.exit, job.early, unpacked.tensors)
            parcel = pack(answer.tensors, IDENTITY if answer.exit is not None else job.codec)
        except (InvalidInput, MalformedMessage) as exc:
            return _failed(job, started_at_s, str(exc), bad_input=True)
        except DrlctlError as exc:
            return _failed(job, started_at_s, str(exc))
        except Exception as exc:  # noqa: BLE001  # the engine is a foreign library: whatever it raises must end this request, not the node
            return _failed(job, started_at_s, f"{type(exc).__name__}: {exc}")
        codec_s, overran = _codec_s(job, unpacked, parcel), False
        self._runs.add(_segment(job), time.perf_counter() - started_at_s)
        if job.slowdown > 1:
            least_codec_s = self._least_codec_s(job, answer.tensors, parcel, codec_s)
            codec_s = max(codec_s, job.slowdown * least_codec_s)
            overran = not self._pace(started_at_s + job.slowdown * (answer.reference_s + least_codec_s))
        finished_at_s = time.perf_counter()
        return Computed(
            request_id=job.request_id,
            parcel=parcel,
            exit=answer.exit,
            started_at_s=started_at_s,
            finished_at_s=finished_at_s,
            at_s=finished_at_s,
            codec_s=min(codec_s, finished_at_s - started_at_s),
            overran=overran,
            batch=int(job.start < job.stop),
        )

    def compute_batch(self, job: RunBatch) -> ComputedBatch:
        """`compute` for all rows as one; when that fails, one after another, so that a bad row fails alone."""
        first, started_at_s = job.rows[0], time.perf_counter()
        try:
            unpacked = [unpack(row.parcel) for row in job.rows]
            inputs = [one.tensors for one in unpacked]
            outputs = self._engines[first.model].run_batch(first.variant, first.start, first.stop, first.exit, inputs)
            parcels = [
                pack(tensors, IDENTITY if row.exit is not None else row.codec) for row, tensors in zip(job.rows, outputs, strict=True)
            ]
        except Exception:  # noqa: BLE001  # whose fault it is, each row's own run tells, whatever a foreign library raised
            return self._one_by_one(job)
        codec_s = [_codec_s(row, one, parcel) for row, one, parcel in zip(job.rows, unpacked, parcels, strict=True)]
        total_codec_s, overran = sum(codec_s), False  # each row waits for the others' too
        self._runs.add(_segment(first, len(job.rows)), time.perf_counter() - started_at_s)
        if first.slowdown > 1:
            rows = zip(job.rows, outputs, parcels, codec_s, strict=True)
            least_codec_s = sum(self._least_codec_s(row, tensors, parcel, took_s) for row, tensors, parcel, took_s in rows)
            total_codec_s = max(total_codec_s, first.slowdown * least_codec_s)
            alone_s = self._engines[first.model].manifest.reference_s(first.variant, first.start, first.stop, first.exit)
            reference_s = affine_batch_s(alone_s, job.fixed_fraction, len(job.rows))
            overran = not self._pace(started_at_s + first.slowdown * (reference_s + least_codec_s))
        finished_at_s = time.perf_counter()
        computed = tuple(
            Computed(
                request_id=row.request_id,
                parcel=parcel,
                exit=row.exit,
                started_at_s=started_at_s,
                finished_at_s=finished_at_s,
                at_s=finished_at_s,
                codec_s=min(total_codec_s, finished_at_s - started_at_s),
                batch=len(job.rows),
            )
            for row, parcel in zip(job.rows, parcels, strict=True)
        )
        return ComputedBatch(rows=computed, at_s=finished_at_s, overran=overran)

    def _one_by_one(self, job: RunBatch) -> ComputedBatch:
        rows = tuple(self.compute(row) for row in job.rows)
        return ComputedBatch(rows=rows, at_s=rows[-1].at_s)  # each row says for itself whether it overran

    def _least_codec_s(self, job: Run, tensors: Sequence[np.ndarray], parcel: Parcel, took_s: float) -> float:
        key = (job.model, job.variant, job.parcel.codec, job.start, parcel.codec, job.stop)
        again = (lambda: _codec_s(job, unpack(job.parcel), pack(tensors, parcel.codec))) if took_s else None
        return self._codecs.add(key, took_s, again)

    def _pace(self, until_s: float) -> bool:
        """Wait for the emulated tier to be done; False when the host was later than that."""
        rest_s = until_s - time.perf_counter()
        if rest_s <= 0:
            return False
        self._stopping.wait(rest_s)
        return True

    def _measure(self, job: RunMeasure) -> MeasuredRun:
        tier_s, host_s, engine = [], [], self._engines[job.model]
        try:
            inputs = [sample(spec, np.random.default_rng(0)) for spec in engine.manifest.variants[job.variant].cuts[job.start]]
            for index in range(WARM_UP_RUNS + job.repeats):
                if self._stopping.is_set():
                    raise SystemFailure("the node is stopping")
                start_s = time.perf_counter()
                engine.run(job.variant, job.start, job.stop, job.exit, inputs)
                host_end_s = time.perf_counter()
                if index >= WARM_UP_RUNS:
                    self._pace(start_s + job.pace_s)
                    host_s.append(host_end_s - start_s)
                    tier_s.append(time.perf_counter() - start_s)
        except Exception as exc:  # noqa: BLE001  # as above
            return MeasuredRun(request_id=job.request_id, tier_s=(), host_s=(), at_s=time.perf_counter(), error=str(exc))
        return MeasuredRun(request_id=job.request_id, tier_s=tuple(tier_s), host_s=tuple(host_s), at_s=time.perf_counter())


class DelayLine:
    """Holds Sends back until their release time, in a thread of its own."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._heap: list[tuple[float, int, Send]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self.released: deque[Send] = deque()
        self._thread = threading.Thread(target=self._loop, name="delay-line", daemon=True)
        self._thread.start()

    def hold(self, send: Send) -> None:
        """Release this one at its time; those of the same time keep their order."""
        with self._changed:
            heapq.heappush(self._heap, (send.release_at_s, next(self._order), send))
            if self._heap[0][2] is send:
                self._changed.notify()

    def drop_requests(self) -> None:
        """Forget what is about requests, of what is held and of what is `released` and was not taken yet."""
        with self._changed:
            self._heap = [entry for entry in self._heap if not entry[2].of_request]
            heapq.heapify(self._heap)
            kept = [send for send in self.released if not send.of_request]
            self.released.clear()
            self.released.extend(kept)

    def close(self) -> None:
        """Stop; safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                rest_s = self._heap[0][0] - time.perf_counter() if self._heap else None
                if rest_s is None or rest_s > 0:
                    self._changed.wait(rest_s)
                    continue
                self.released.append(heapq.heappop(self._heap)[2])
            self._wake()


def _segment(job: Run, num_rows: int = 1) -> tuple[object, ...]:
    return job.model, job.variant, job.start, job.stop, job.exit, job.codec, num_rows


def _codec_s(job: Run, unpacked: Unpacked, parcel: Parcel) -> float:
    """Host seconds of codecs; reading and laying out tensors as they are is the runtime's overhead, and no tier's slowness."""
    decode_s = unpacked.decode_s if job.parcel.codec != IDENTITY else 0.0
    return decode_s + (parcel.encode_s if parcel.codec != IDENTITY else 0.0)


def _failed(job: Run, started_at_s: float, error: str, *, bad_input: bool = False) -> Computed:
    at_s = time.perf_counter()
    return Computed(
        request_id=job.request_id,
        parcel=Parcel(),
        exit=None,
        started_at_s=started_at_s,
        finished_at_s=at_s,
        at_s=at_s,
        error=error,
        bad_input=bad_input,
    )
