"""Who computes: the worker's thread, or the loop itself for what is known to be quick."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.codecs.parcel import pack, unpack
from runtime.inference.engine import Engine
from runtime.models.build import ensure_model
from runtime.models.examples import load_examples
from runtime.models.manifest import load_manifest
from runtime.protocol.events import Computed, ComputedBatch, MeasuredRun, Run, RunBatch, RunMeasure, Send
from runtime.worker import ComputeWorker, DelayLine

WAIT_S = 30.0


@pytest.fixture(scope="module")
def model_dir() -> Path:
    return ensure_model("digits-cnn")


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def worker(model_dir: Path, woken: threading.Event) -> Iterator[ComputeWorker]:
    worker = ComputeWorker({"digits-cnn": Engine(model_dir)}, woken.set)
    yield worker
    worker.close()


def job(model_dir: Path, *, slowdown: float = 1.0) -> Run:
    image = load_examples(model_dir, "test").images[0]
    return Run(
        request_id=7,
        model="digits-cnn",
        variant="int8",
        start=0,
        stop=1,
        exit=None,
        parcel=pack([image]),
        codec="identity",
        slowdown=slowdown,
    )


def test_a_segment_never_run_before_goes_to_the_thread(worker: ComputeWorker, model_dir: Path) -> None:
    """The first run loads and warms the session: nobody knows how long that takes."""
    assert not worker.is_quick(job(model_dir))


def run_until_quick(worker: ComputeWorker, model_dir: Path) -> None:
    """The first run includes loading; the smoothed time forgets it, and whatever else the host was doing."""
    while not worker.is_quick(job(model_dir)):
        worker.compute(job(model_dir))


def test_a_segment_that_is_quick_runs_where_it_is_asked_for(worker: ComputeWorker, model_dir: Path) -> None:
    """Once runs of a segment take less than QUICK_S, the caller may compute it itself."""
    run_until_quick(worker, model_dir)


def test_a_paced_segment_is_never_quick(worker: ComputeWorker, model_dir: Path) -> None:
    """An emulated tier waits until it would have been done, and the loop must not."""
    run_until_quick(worker, model_dir)
    assert not worker.is_quick(job(model_dir, slowdown=1.5))


def test_tensors_as_they_are_cost_no_codec_time(worker: ComputeWorker, model_dir: Path) -> None:
    """On an emulated tier the host's own handling must not be multiplied; a codec's work is."""
    assert worker.compute(job(model_dir, slowdown=20.0)).codec_s == 0.0
    coded = msgspec.structs.replace(job(model_dir, slowdown=20.0), codec="identity+zstd")
    assert worker.compute(coded).codec_s > 0.0


def test_both_ways_compute_the_same(worker: ComputeWorker, woken: threading.Event, model_dir: Path) -> None:
    """The thread's event and the caller's own carry the same tensors."""
    here = worker.compute(job(model_dir))
    worker.submit(job(model_dir))
    assert woken.wait(WAIT_S)
    there = worker.done.popleft()
    assert isinstance(there, Computed)
    np.testing.assert_array_equal(unpack(here.parcel).tensors[0], unpack(there.parcel).tensors[0])


def batch(model_dir: Path, *, num_rows: int = 3, slowdown: float = 1.0) -> RunBatch:
    """The same job for several requests with a picture each."""
    images = load_examples(model_dir, "test").images
    rows = tuple(
        msgspec.structs.replace(job(model_dir, slowdown=slowdown), request_id=number, parcel=pack([images[number]]))
        for number in range(num_rows)
    )
    return RunBatch(rows=rows, fixed_fraction=0.25)


def tensors(computed: Computed) -> np.ndarray:
    """What it carries."""
    return unpack(computed.parcel).tensors[0]


def test_rows_of_a_batch_are_what_they_are_alone(worker: ComputeWorker, model_dir: Path) -> None:
    """Each row has its own tensors, within a step of the quantised ones, and all have the batch's instants and size."""
    done = worker.compute_batch(batch(model_dir))
    for row, run in zip(done.rows, batch(model_dir).rows, strict=True):
        assert (row.request_id, row.error, row.batch) == (run.request_id, "", 3)
        np.testing.assert_allclose(tensors(row), tensors(worker.compute(run)), atol=1)
    assert len({(row.started_at_s, row.finished_at_s, row.codec_s) for row in done.rows}) == 1


def test_a_bad_row_fails_alone(worker: ComputeWorker, model_dir: Path) -> None:
    """A frame that is no tensor of its spec is that row's fault; the others are computed."""
    given = batch(model_dir)
    short = msgspec.structs.replace(given.rows[1].parcel, frames=(b"short",))
    rows = (given.rows[0], msgspec.structs.replace(given.rows[1], parcel=short), given.rows[2])
    done = worker.compute_batch(msgspec.structs.replace(given, rows=rows))
    assert [(row.request_id, bool(row.error), row.bad_input) for row in done.rows] == [
        (0, False, False),
        (1, True, True),
        (2, False, False),
    ]
    assert [row.batch for row in done.rows if not row.error] == [1, 1]


def test_a_batch_is_paced_by_its_cost_model(worker: ComputeWorker, model_dir: Path) -> None:
    """On an emulated tier three rows take a quarter of one's time once and the rest three times: never less."""
    alone_s = load_manifest(model_dir).reference_s("int8", 0, 1, None)
    done = worker.compute_batch(batch(model_dir, slowdown=50.0))
    assert done.rows[0].finished_at_s - done.rows[0].started_at_s >= 50 * alone_s * (0.25 + 0.75 * 3)


def test_a_quick_batch_runs_where_it_is_asked_for(worker: ComputeWorker, woken: threading.Event, model_dir: Path) -> None:
    """By earlier batches of its size, not by single runs; the thread does one just as well."""
    run_until_quick(worker, model_dir)
    assert not worker.is_quick(batch(model_dir))
    while not worker.is_quick(batch(model_dir)):
        assert isinstance(worker.perform(batch(model_dir)), ComputedBatch)
    worker.submit(batch(model_dir))
    assert woken.wait(WAIT_S)
    assert isinstance(worker.done.popleft(), ComputedBatch)


def test_closing_ends_a_measurement(worker: ComputeWorker, model_dir: Path) -> None:
    """However many repeats are left of it: it says that it was not made."""
    many = RunMeasure(request_id=1, model="digits-cnn", variant="int8", start=0, stop=1, exit=None, repeats=10_000, pace_s=1.0)
    worker.submit(many)
    worker.close()
    done = worker.perform(many)
    assert isinstance(done, MeasuredRun)
    assert (done.host_s, done.error) == ((), "the node is stopping")


def test_what_is_held_about_requests_can_be_dropped(woken: threading.Event) -> None:
    """Held or released and not taken yet: the rest keeps its time and its order."""
    line = DelayLine(woken.set)
    now_s = time.perf_counter()
    first, second = (Send(target="up", frames=[], release_at_s=now_s + wait_s, request_id=-2) for wait_s in (0.05, 0.1))
    for about_request in (0.0, 0.06, 0.09):
        line.hold(Send(target="up", frames=[], release_at_s=now_s + about_request, request_id=1, of_request=True))
    line.hold(second)
    line.hold(first)
    line.drop_requests()
    try:
        while len(line.released) < 2:
            assert woken.wait(WAIT_S)
            woken.clear()
        assert list(line.released) == [first, second]
    finally:
        line.close()
