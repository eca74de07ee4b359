"""Who computes: the worker's thread, or the loop itself for what is known to be quick."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.codecs.parcel import pack, unpack
from runtime.inference.engine import Engine
from runtime.models.build import ensure_model
from runtime.models.examples import load_examples
from runtime.protocol.events import Computed, Run
from runtime.worker import ComputeWorker

WAIT_S = 30.0


@pytest.fixture(scope="module")
def model_dir() -> Path:
    return ensure_model("digits-cnn")


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def worker(model_dir: Path, woken: threading.Event) -> Iterator[ComputeWorker]:
    worker = ComputeWorker(Engine(model_dir), woken.set)
    yield worker
    worker.close()


def job(model_dir: Path, *, slowdown: float = 1.0) -> Run:
    image = load_examples(model_dir, "test").images[0]
    return Run(request_id=7, variant="int8", start=0, stop=1, exit=None, parcel=pack([image]), codec="identity", slowdown=slowdown)


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


def test_both_ways_compute_the_same(worker: ComputeWorker, woken: threading.Event, model_dir: Path) -> None:
    """The thread's event and the caller's own carry the same tensors."""
    here = worker.compute(job(model_dir))
    worker.submit(job(model_dir))
    assert woken.wait(WAIT_S)
    there = worker.done.popleft()
    assert isinstance(there, Computed)
    np.testing.assert_array_equal(unpack(here.parcel).tensors[0], unpack(there.parcel).tensors[0])
