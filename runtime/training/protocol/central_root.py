"""The root of a centralised job: takes in the examples of all clients, then trains on them, and keeps the records.

joining ──all uploaded, or a quorum and nothing more comes──► training ──► done or failed (course.py)
upload:   Join ─► Wanted ─► Upload ─► StoreExamples ─► StoredExamples ─► Wanted ─► ... until the client has no more
a round:  CentralSteps ─► CentralDone ─► record ─► Save ─► next

Clients that are done later take part from the next round on.  The first record has the upload in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from runtime.messages import Ack, FitJob, FitReport, Join, RoundRecord, SetTau, Upload, Uploaded, Wanted
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.central_tasks import CentralDone, CentralSteps, StoredExamples, StoreExamples
from runtime.training.protocol.course import Course
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.tasks import Prepared, Save, Saved, TrainerResult
from runtime.training.tau_control import TauState


@dataclass(slots=True)
class _Since:
    """What has come since the last record."""

    at_s: float
    uploaded_at_s: float = 0.0
    """When the last piece came that the first round waited for."""
    up_bytes: int = 0
    raw_bytes: int = 0
    joules: float = 0.0
    refused: int = 0


class CentralRoot:
    """The root of one job."""

    def __init__(self, job: FitJob, clients: tuple[str, ...], prepared: Prepared, ports: Ports, at_s: float) -> None:
        assert prepared.weights is not None, "a root is prepared with weights"
        self._job, self._expected, self._ports = job, clients, ports
        self._weights: np.ndarray = prepared.weights
        self._held = dict(prepared.held)
        self._peers: dict[str, bytes] = {}
        self._tau, self._attempt = job.tau.tau, prepared.attempt
        self._course = Course(job, prepared.records, at_s)
        self._since = _Since(at_s=at_s)
        self._running: tuple[str, ...] = ()

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """Clients join and upload."""
        match event.message:
            case Join(client=client, num_examples=total) if event.source == "down" and client in self._expected:
                self._peers[client] = event.peer
                if client in self._held and self._held[client].total != total:
                    del self._held[client]  # it came back with other examples
                return [self._want(client, event.at_s), *self._go_on(event.at_s)]
            case Upload() if event.source == "down" and event.message.client in self._expected:
                return self._on_upload(event, event.message)
            case Uploaded(client=client, joules=joules) if event.source == "down" and client in self._expected:
                self._since.joules += joules
                return []
            case SetTau(tau=tau):
                self._course.want_tau(tau)
                return []
            case _:
                return []

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """The trainer finished something."""
        match result:
            case StoredExamples():
                return self._on_stored(result, at_s)
            case CentralDone():
                return self._on_steps(result, at_s)
            case Saved(error=error):
                self._course.kept(error)
                return []
            case _:
                return []

    def tick(self, at_s: float) -> list[Instruction]:
        """Examples of before a restart may be enough; and there is a time after which no more are waited for."""
        return self._go_on(at_s)

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """A root sends nothing up."""
        return []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """A root has nobody above."""
        return []

    @property
    def next_tick_at_s(self) -> float:
        """When it waits no longer."""
        if self._course.phase != "joining":
            return math.inf
        return self._course.join_by_s if len(self._complete()) < len(self._expected) else 0.0

    def report(self, request_id: int, since_round: int) -> FitReport:
        """How far the job is, with records of rounds after `since_round`; who has uploaded all counts as joined."""
        return self._course.report(request_id, since_round, tau=self._tau, joined=self._complete())

    # ------------------------------------------------------------ uploads

    def _on_upload(self, event: Received, upload: Upload) -> list[Instruction]:
        self._peers[upload.client] = event.peer
        self._since.up_bytes += event.num_bytes
        ack = self._ports.down_control(event.peer, Ack(request_id=upload.request_id), event.at_s)
        store = StoreExamples(job=self._job.name, client=upload.client, first=upload.first, total=upload.total, parcel=event.parcel)
        return [ack, store]

    def _on_stored(self, stored: StoredExamples, at_s: float) -> list[Instruction]:
        if stored.error:  # no answer: the client asks again when it has waited long enough, and not at once for ever
            self._since.refused += 1
            self._course.message = f"examples of {stored.client} were refused: {stored.error}"
            return []
        self._held[stored.client] = stored.held
        self._since.raw_bytes += stored.new_bytes
        if self._course.phase == "joining":
            self._since.uploaded_at_s = at_s
            self._course.join_by_s = max(self._course.join_by_s, at_s + self._job.round_deadline_s)
        want = [self._want(stored.client, at_s)] if stored.client in self._peers else []
        return [*want, *self._go_on(at_s)]

    def _want(self, client: str, at_s: float) -> Instruction:
        held = self._held.get(client)
        wanted = Wanted(job=self._job.name, client=client, first=held.num if held is not None else 0)
        return self._ports.down_control(self._peers[client], wanted, at_s)

    def _complete(self) -> tuple[str, ...]:
        """Clients all of whose examples are here."""
        held = self._held
        return tuple(name for name in self._expected if name in held and held[name].num == held[name].total > 0)

    # ------------------------------------------------------------ from round to round

    def _go_on(self, at_s: float) -> list[Instruction]:
        quorum = max(1, math.ceil(self._job.quorum_fraction * len(self._expected)))
        begins = self._course.try_to_begin(self._complete(), len(self._expected), quorum, at_s, having="uploaded all examples")
        return [self._steps()] if begins else []

    def _steps(self) -> Instruction:
        self._attempt += 1
        self._tau = self._course.decided_tau(otherwise=self._tau)
        self._running = self._complete()
        return CentralSteps(
            job=self._job.name,
            round=self._attempt,
            tau=self._tau,
            weights=self._weights,
            clients=self._running,
            evaluate=self._course.next_is_evaluated,
        )

    def _on_steps(self, done: CentralDone, at_s: float) -> list[Instruction]:
        running = self._running
        if not running or done.round != self._attempt:
            return []
        if done.weights is None:
            return self._again(done.error)
        self._weights = done.weights
        self._course.add(self._record(running, done, at_s), then_kept=True)
        self._since = _Since(at_s=at_s)
        state = TauState(tau=self._tau)
        save = Save(job=self._job.name, weights=self._weights, records=self._course.records, attempt=self._attempt, tau=state)
        if self._course.is_over:
            self._running = ()
            return [save]
        return [save, self._steps()]

    def _again(self, why: str) -> list[Instruction]:
        if self._course.try_again(why):
            return [self._steps()]
        self._running = ()
        return []

    def _record(self, clients: tuple[str, ...], done: CentralDone, at_s: float) -> RoundRecord:
        since = self._since
        transfer_s = max(0.0, since.uploaded_at_s - since.at_s)
        return RoundRecord(
            round=self._course.num_rounds + 1,
            tau=self._tau,
            at_s=self._course.lasted_s(at_s),
            clients=clients,
            missing=tuple(name for name in self._expected if name not in clients),
            loss=done.loss,
            accuracy=done.accuracy,
            test_loss=done.test_loss,
            compute_s=done.compute_s,
            transfer_s=transfer_s,
            waiting_s=max(0.0, at_s - since.at_s - transfer_s - done.compute_s),
            up_bytes=(since.up_bytes, since.up_bytes if self._job.root == "cloud" else 0),  # the same frames have crossed both links
            device_joules=since.joules,
            refused={"unusable_examples": since.refused} if since.refused else {},
            raw_bytes=since.raw_bytes,
        )
