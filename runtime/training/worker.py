"""The thread beside a node's poll loop that trains.  Networks and data stay in it; only messages and arrays leave.

Local steps give way to requests: on an emulated tier a step takes `slowdown` times what it takes this host, not counting the
time in which the tier computes for requests; on a real host the thread runs at the lowest priority that the system has.
"""

from __future__ import annotations

import importlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, assert_never

import msgspec

from runtime.durations import Least
from runtime.errors import DrlctlError
from runtime.training.protocol.central_tasks import (
    CentralDone,
    CentralSteps,
    Held,
    PackedExamples,
    PackExamples,
    StoredExamples,
    StoreExamples,
)
from runtime.training.protocol.masking_tasks import (
    KeysMade,
    KeysShared,
    MakeKeys,
    MaskingResult,
    Reveal,
    ShareKeys,
    SharesRevealed,
)
from runtime.training.protocol.split_tasks import SplitDone, SplitTask, failed
from runtime.training.protocol.tasks import (
    Aggregate,
    Aggregated,
    Assess,
    Assessed,
    CancelLocal,
    Decode,
    Decoded,
    Evaluate,
    Evaluated,
    Forget,
    GossipDone,
    GossipSteps,
    LocalDone,
    LocalSteps,
    Prepare,
    Prepared,
    Save,
    Saved,
    StepsTaken,
    TrainerResult,
    TrainerTask,
)
from runtime.training.steps import STEP

LOWEST_PRIORITY = 19
NEWS_S = 0.02
"""At least between two that tell how many local steps are done: fast steps should not keep waking the poll loop."""
LONGEST_REST_S = 0.5
"""Between two looks at whether the node stops; leaving the job is heard of at once."""
MOST_REHEARSALS, REHEARSAL_S = 100, 0.5
"""Steps without effect before a job's first, on an emulated tier, and for how long at most."""


class Cancelled(Exception):
    """A newer round made the steps of this one useless."""


class TrainingWorker:
    """Carries trainer tasks out one after another.  `busy_s` says how long the node has computed for requests so far."""

    def __init__(self, wake: Callable[[], None], busy_s: Callable[[], float]) -> None:
        self._wake, self._busy_s = wake, busy_s
        self._tasks: queue.SimpleQueue[TrainerTask | None] = queue.SimpleQueue()
        self.done: deque[TrainerResult] = deque()
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self._cancelled_round = -1
        self._thread: threading.Thread | None = None
        self._trainer: Any = None
        self._slowdown = 1.0
        self._steps = Least()
        self._step_began = (0.0, 0.0)
        self._job, self._num_steps, self._told_at_s = "", 0, 0.0

    def submit(self, task: TrainerTask) -> None:
        """Queue a task; its result appears in `done`.  Cancelling takes effect at once, and so does leaving the job."""
        if isinstance(task, CancelLocal):
            self._cancelled_round = task.round
            return
        if isinstance(task, Forget):
            self._leaving.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="trainer", daemon=True)
            self._thread.start()
        self._tasks.put(task)

    def close(self) -> None:
        """Stop after the running step; safe to call twice."""
        self._stopping.set()
        self._tasks.put(None)
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopping.is_set():
            result = self._perform(task)
            if isinstance(task, Prepare) and isinstance(result, Prepared):
                result = msgspec.structs.replace(result, number=task.number)
            if result is not None:
                self.done.append(result)
                self._wake()

    def _perform(self, task: TrainerTask) -> TrainerResult | None:
        try:
            return self._carry_out(task)
        except Cancelled:
            return None
        except (DrlctlError, OSError) as exc:
            return failed_result(task, str(exc))
        except Exception as exc:  # noqa: BLE001  # torch and users' networks raise what they like: the round fails, not the node
            return failed_result(task, f"{type(exc).__name__}: {exc}")

    def _carry_out(self, task: TrainerTask) -> TrainerResult | None:
        match task:
            case Prepare():
                return self._prepare(task)
            case LocalSteps(job=name):
                self._job, self._num_steps, self._told_at_s = name, 0, time.perf_counter()
                self._begin_steps()
                local: LocalDone = self._trainer.local_steps(task)
                self._job = ""
                return local
            case GossipSteps():
                gossip: GossipDone = self._steps_of(self._trainer.gossip_steps, task)
                return gossip
            case Assess():
                assessed: Assessed = self._trainer.assess(task)
                return assessed
            case Decode():
                decoded: Decoded = self._trainer.decode(task)
                return decoded
            case Aggregate():
                aggregated: Aggregated = self._trainer.aggregate(task)
                return aggregated
            case Evaluate():
                evaluated: Evaluated = self._trainer.evaluate(task)
                return evaluated
            case Save():
                saved: Saved = self._trainer.save(task)
                return saved
            case Forget():
                self._trainer, self._cancelled_round = None, -1
                self._leaving.clear()
                return None
            case CancelLocal():
                return None
            case SplitTask():
                split: SplitDone = self._steps_of(self._trainer.answer, task)
                return split
            case CentralSteps():
                self._begin_steps()
                trained: CentralDone = self._trainer.central_steps(task)
                return trained
            case MakeKeys() | ShareKeys() | Reveal():
                masks: MaskingResult = self._trainer.answer_masking(task)
                return masks
            case PackExamples():
                packed: PackedExamples = self._trainer.pack(task)
                return packed
            case StoreExamples():
                stored: StoredExamples = self._trainer.store(task)
                return stored
            case _:
                assert_never(task)

    def _prepare(self, task: Prepare) -> Prepared:
        if task.role == "relay":
            return Prepared(job=task.job.name)
        try:
            trainers = importlib.import_module("runtime.training.trainers")
        except ModuleNotFoundError as exc:
            return Prepared(job=task.job.name, error=f"training needs {exc.name} on this node: pip install 'drlctl[train]'")
        importlib.import_module("torch").set_num_threads(1)
        self._slowdown, self._cancelled_round, self._steps = task.slowdown, -1, Least()
        if task.job.transfer is not None:
            _lower_priority()  # a root may have a base to train first
        self._step_began = (time.perf_counter(), self._busy_s())
        self._trainer = trainers.make_trainer(task, self._after_step)
        prepared: Prepared = self._trainer.prepared
        if self._slowdown > 1 and isinstance(self._trainer, trainers.Trainer):
            self._rehearse(self._trainer.rehearse)
        return prepared

    def _rehearse(self, step_s: Callable[[], float | None]) -> None:
        """Learn what a step takes before the first one, which is cold: it would be multiplied as if every step took as long.

        Many times in a row, because a busy host lets few of them run undisturbed.
        """
        until_s = time.perf_counter() + REHEARSAL_S
        for _ in range(MOST_REHEARSALS):
            if time.perf_counter() > until_s or (took_s := step_s()) is None:
                return
            self._steps.add(STEP, took_s)

    def _begin_steps(self) -> None:
        _lower_priority()
        self._step_began = (time.perf_counter(), self._busy_s())

    def _steps_of(self, carry_out: Callable[[Any], Any], task: GossipSteps | SplitTask) -> Any:
        """Local steps at the lowest priority, and how long they took."""
        self._begin_steps()
        began_s = time.perf_counter()
        done = carry_out(task)
        return msgspec.structs.replace(done, compute_s=time.perf_counter() - began_s)

    def _after_step(self, round_number: int, kind: str) -> None:
        """Wait until the emulated tier would have taken the step too; Cancelled when the round is out of date."""
        began_s, busy_before_s = self._step_began
        took_s = self._steps.add(kind, time.perf_counter() - began_s)
        while not (self._stopping.is_set() or self._leaving.is_set()) and round_number != self._cancelled_round:
            trained_s = time.perf_counter() - began_s - (self._busy_s() - busy_before_s)
            rest_s = self._slowdown * took_s - trained_s if self._slowdown > 1 else 0.0
            if rest_s <= 0:
                self._step_began = (time.perf_counter(), self._busy_s())
                if kind == STEP:
                    self._tell_steps(round_number)
                return
            self._leaving.wait(min(rest_s, LONGEST_REST_S))
        raise Cancelled

    def _tell_steps(self, round_number: int) -> None:
        """Of LocalSteps, now and then; the end is LocalDone's to tell."""
        self._num_steps += 1
        now_s = time.perf_counter()
        if self._job and now_s - self._told_at_s >= NEWS_S:
            self._told_at_s = now_s
            self.done.append(StepsTaken(job=self._job, round=round_number, num_steps=self._num_steps))
            self._wake()


def failed_result(task: TrainerTask, error: str) -> TrainerResult | None:
    """What a task that failed answers; None for one that answers nothing."""
    match task:
        case Prepare(job=job):
            return Prepared(job=job.name, error=error)
        case LocalSteps(job=name, round=number):
            return LocalDone(job=name, round=number, error=error)
        case Decode(contribution=contribution):
            header = contribution.header
            return Decoded(job=contribution.job, client=header.client, round=header.round, error=error)
        case Aggregate(job=name):
            return Aggregated(job=name, error=error)
        case Evaluate(job=name):
            return Evaluated(job=name, error=error)
        case Save(job=name):
            return Saved(job=name, error=error)
        case SplitTask():
            return failed(task, error)
        case CentralSteps(job=name, round=number):
            return CentralDone(job=name, round=number, error=error)
        case MakeKeys(job=name, round=number):
            return KeysMade(job=name, round=number, error=error)
        case ShareKeys(job=name, round=number):
            return KeysShared(job=name, round=number, error=error)
        case Reveal(job=name, round=number):
            return SharesRevealed(job=name, round=number, error=error)
        case PackExamples(job=name, first=first):
            return PackedExamples(job=name, first=first, error=error)
        case StoreExamples(job=name, client=client, first=first, total=total):
            return StoredExamples(job=name, client=client, held=Held(num=first, total=total), error=error)
        case GossipSteps(job=name, round=number):
            return GossipDone(job=name, round=number, error=error)
        case Assess(job=name):
            return Assessed(job=name, error=error)
        case _:
            return None


def _lower_priority() -> None:
    """Of this thread alone, where the system keeps priorities per thread (Linux does)."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
