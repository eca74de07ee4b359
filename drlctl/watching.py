"""A published system until it is stopped: what is looked at meanwhile, and what is said at the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from drlctl.output import note
from drlctl.systems import PublishedSystem
from envs.system import JobReport

CHECK_PERIOD_S = 0.5


class Watch:
    """Called now and then: a node that ends is the system's end, a job that fails is told once, for requests go on without it."""

    def __init__(self, system: PublishedSystem) -> None:
        self._system, self._told = system, False

    def __call__(self) -> None:
        """Raises SystemFailure when a node has ended."""
        self._system.nodes.check()
        failure = self._system.job.failure if self._system.job is not None else ""
        if failure and not self._told:
            note(f"the training job beside the requests failed: {failure}; requests go on without it")
            self._told = True


def job_line(report: JobReport) -> str:
    """What the job beside the requests came to, for people."""
    if not report.num_rounds:
        return "the job beside the requests: no round was done"
    return (
        f"the job beside the requests: {report.num_rounds} rounds of {report.num_steps / report.num_rounds:.1f} local steps on average,"
        f" test loss {report.initial_loss:.3f} to {report.final_loss:.3f}; its weights are not kept"
    )


def until_stopped(check: Callable[[], None]) -> None:
    """Block until SIGINT or SIGTERM, calling `check` now and then; whatever it raises passes through."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not stop.wait(CHECK_PERIOD_S):
            check()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
