"""The training job beside live requests: begun anew with every episode, and watched by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import msgspec

from envs.job_config import beside
from envs.scenario import Scenario
from envs.system import JobReport
from runtime.errors import DrlctlError, PeerLost, SystemFailure
from runtime.launch import RunningNodes
from runtime.messages import FitJob, FitReport, RoundRecord, TauSpec
from runtime.training.places import Place, assign_roles
from runtime.training.session import PREPARE_NODE_S, PREPARE_S, FitSession

LOOK_S = 0.2
"""Between two looks at the root."""


class LiveJob:
    """One job on running nodes, episode after episode.  One caller; leaving its `with` block ends the job and the thread."""

    def __init__(self, job: FitJob, places: Mapping[str, Place], is_gone: Callable[[str], bool] = lambda _: False) -> None:
        """What its nodes keep on disk is nobody's to go on with: every episode starts from the network's first weights.

        `is_gone`: whether a node's process has ended, so that nobody waits for its answers.
        """
        self._job = msgspec.structs.replace(job, folder="")
        self.places = dict(places)
        """Who does what."""
        self._is_gone = is_gone
        self._changed = threading.Condition()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self._ready = False
        self._error: Exception | None = None
        self._records: dict[int, RoundRecord] = {}
        self._initial_loss = self._loss = self._told_loss = 0.0
        self._decided_tau: int | None = None

    def begin(self, number: int, tau: TauSpec | None = None) -> None:
        """End what runs, and start the job of episode `number`; returns when all nodes have their network and their data.

        `tau`: the rule that its tau follows; None: the job's own.  Raises SystemFailure when they do not.
        """
        self.end()
        self._leaving.clear()
        self._ready, self._error, self._records, self._decided_tau = False, None, {}, None
        job = msgspec.structs.replace(self._job, name=f"{self._job.name}-{number}", tau=tau or self._job.tau)
        self._thread = threading.Thread(target=self._watch, args=(job,), name="live-job", daemon=True)
        self._thread.start()
        patience_s = PREPARE_S + PREPARE_NODE_S * len(self.places)
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._error is not None, patience_s)
            self._raise_if_failed()
            if not self._ready:
                raise SystemFailure(f"job {job.name!r} did not start within {patience_s:g} s")

    @property
    def records(self) -> tuple[RoundRecord, ...]:
        """Of this episode's rounds so far, in order."""
        with self._changed:
            return tuple(self._records[number] for number in sorted(self._records))

    def wait(self, num_rounds: int, timeout_s: float) -> None:
        """Until so many rounds are done, or time is up.  Raises SystemFailure when the job failed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._records) >= num_rounds or self._error is not None, timeout_s)
            self._raise_if_failed()

    @property
    def failure(self) -> str:
        """Why the job failed; empty while it goes on."""
        with self._changed:
            return str(self._error or "")

    @property
    def report(self) -> JobReport:
        """What the episode's rounds have come to so far."""
        records = self.records
        with self._changed:
            return JobReport(
                num_rounds=len(records), num_steps=sum(record.tau for record in records),
                initial_loss=self._initial_loss, final_loss=self._loss,
            )  # fmt: skip

    def decide(self, tau: int) -> None:
        """Set the tau of the rounds to come, where the job's rule leaves it to be decided; the job fails for one that cannot be."""
        with self._changed:
            self._decided_tau = tau

    def take_loss_drop(self) -> float:
        """By how much the loss on the test split fell since this was last asked.  Raises SystemFailure when the job failed."""
        with self._changed:
            self._raise_if_failed()
            drop, self._told_loss = self._told_loss - self._loss, self._loss
            return drop

    def end(self) -> None:
        """Let the nodes leave the job, and wait for the thread; may be called twice."""
        if self._thread is not None:
            self._leaving.set()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> LiveJob:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            raise SystemFailure(f"the training job beside the requests failed: {self._error}") from self._error

    # ------------------------------------------------------------ the watching thread

    def _watch(self, job: FitJob) -> None:
        try:
            with FitSession(job, self.places, self._is_gone) as session:
                try:
                    session.start(given_up=self._leaving.is_set)
                    self._look(session)
                    while not self._leaving.wait(LOOK_S):
                        self._look(session)
                        self._pass_on_tau(session)
                finally:
                    session.stop()  # nodes that had taken it must be free for the next
        except (DrlctlError, OSError) as exc:
            with self._changed:
                self._error = exc
                self._changed.notify_all()

    def _look(self, session: FitSession) -> None:
        try:
            report = session.report(max(self._records, default=0), patience_s=0.0)
        except PeerLost:
            return  # the root is busy or away; whether its process is gone is for the system's own checks
        with self._changed:
            self._take(report)
            self._changed.notify_all()

    def _pass_on_tau(self, session: FitSession) -> None:
        with self._changed:
            tau, self._decided_tau = self._decided_tau, None
        if tau is not None:
            session.set_tau(tau)

    def _take(self, report: FitReport) -> None:
        if report.phase == "failed":
            self._error = SystemFailure(report.message)
        if not self._ready:
            self._initial_loss = self._loss = self._told_loss = report.initial_loss or 0.0
            self._ready = True
        for record in report.records:
            self._records[record.round] = record
            self._loss = record.test_loss if record.test_loss is not None else self._loss


def live_job(scenario: Scenario, nodes: RunningNodes) -> LiveJob | None:
    """What the scenario trains beside its requests, on its running nodes; None where it trains nothing."""
    if scenario.job is None:
        return None
    job = beside(scenario.fit)
    return LiveJob(job, assign_roles(job, nodes.upstreams, nodes.addresses), nodes.has_ended)
