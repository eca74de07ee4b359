"""The node above all others: begins rounds until the job is done, decides tau, keeps the records.

joining ──all here, or a quorum at the deadline──► training ──rounds done, or the target reached──► done
                                                    └── too many failed rounds in a row ──► failed
a round:  open ─► closed ─► Aggregate ─► Aggregated ─► record ─► Save ─► next
"""

from __future__ import annotations

import math

import numpy as np

from runtime.messages import Contribution, Declined, FitJob, FitPhase, FitReport, Join, RoundRecord, SetTau
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.laid_base import LaidBase
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import Collected, Rounds
from runtime.training.protocol.tasks import Aggregate, Aggregated, Decoded, Prepared, Save, Saved, TrainerResult
from runtime.training.tau import LossSurface
from runtime.training.tau_control import AdaptiveTau, FixedTau, RoundReport, TauController, TauState


class Root:
    """The root of one job."""

    def __init__(self, job: FitJob, clients: tuple[str, ...], prepared: Prepared, ports: Ports, at_s: float) -> None:
        assert prepared.weights is not None, "a root is prepared with weights"
        self._job, self._ports = job, ports
        self._weights: np.ndarray = prepared.weights
        self._rounds = Rounds(job, clients, prepared.num_parameters, ports)
        self._rounds.base = LaidBase.of(prepared.base) if prepared.base is not None else None
        self._base_s = prepared.base_s
        self._controller = _controller(job)
        self._compares = job.tau.rule == "adaptive" and job.architecture != "hierarchical"  # edges keep their devices' gradients
        self._tau = prepared.tau or self._controller.start()
        self._wanted_tau: int | None = None
        self._records = list(prepared.records)
        self._attempt, self._failed_in_a_row = max(prepared.attempt, int(at_s)), 0  # later than those of an earlier start without a folder
        self._phase: FitPhase = "done" if self._is_over() else "joining"
        self._message = ""
        self._began_at_s = at_s - (self._records[-1].at_s if self._records else 0.0)
        self._join_by_s = at_s + job.join_deadline_s
        self._collected: Collected | None = None

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """Clients join and contribute."""
        match event.message:
            case Join() if event.source == "down":
                return [*self._rounds.join(event.message, event.peer, event.at_s), *self._go_on(event.at_s)]
            case Contribution() if event.source == "down":
                return self._rounds.on_contribution(event, event.message)
            case Declined() if event.source == "down":
                self._rounds.on_declined(event.message, event.at_s)
                return self._go_on(event.at_s)
            case SetTau(tau=tau):
                self._wanted_tau = min(tau, self._job.tau.max_tau)
                return []
            case _:
                return []

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """The trainer finished something."""
        match result:
            case Decoded():
                self._rounds.on_decoded(result)
                return self._go_on(at_s)
            case Aggregated():
                return self._on_aggregated(result, at_s)
            case Saved(error=error) if error:
                self._message = f"not saved: {error}"
                return []
            case _:
                return []

    def tick(self, at_s: float) -> list[Instruction]:
        """Deadlines of joining and of the open round."""
        self._rounds.poll(at_s)
        return self._go_on(at_s)

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """A root sends nothing up."""
        return []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """A root has nobody above."""
        return []

    @property
    def next_tick_at_s(self) -> float:
        """The next deadline."""
        if self._phase == "joining":
            return self._join_by_s
        return self._rounds.deadline_at_s if self._phase == "training" else math.inf

    def report(self, request_id: int, since_round: int) -> FitReport:
        """How far the job is, with the records of rounds after `since_round`."""
        return FitReport(
            request_id=request_id,
            job=self._job.name,
            phase=self._phase,
            round=len(self._records),
            tau=self._tau.tau,
            joined=self._rounds.joined,
            records=tuple(record for record in self._records if record.round > since_round)[:RECORDS_PER_REPORT],
            message=self._message,
        )

    # ------------------------------------------------------------ from round to round

    def _go_on(self, at_s: float) -> list[Instruction]:
        """Whatever is due now: begin, aggregate, or try again."""
        if self._phase == "joining":
            enough = len(self._rounds.joined) >= self._rounds.quorum
            if self._rounds.complete or (enough and at_s >= self._join_by_s):
                self._phase = "training"
                return self._open(at_s)
            if at_s >= self._join_by_s:
                joined = ", ".join(self._rounds.joined) or "nobody"
                return self._fail(f"only {joined} joined within {self._job.join_deadline_s:g} s, {self._rounds.quorum} are needed")
        if self._phase != "training" or self._collected is not None:
            return []
        if self._rounds.phase == "closed":
            return self._aggregate(at_s)
        if self._rounds.phase == "failed":
            return self._again(at_s, "no quorum by the deadline")
        return []

    def _open(self, at_s: float) -> list[Instruction]:
        self._attempt += 1
        tau = self._tau.tau if self._wanted_tau is None or self._job.tau.rule != "decided" else self._wanted_tau
        self._tau = TauState(tau=tau, spent=self._tau.spent, surface=self._tau.surface)
        return self._rounds.open(self._attempt, self._weights, tau, at_s, compare=self._compares)

    def _again(self, at_s: float, why: str) -> list[Instruction]:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._job.max_failed_rounds:
            return self._fail(f"{self._failed_in_a_row} rounds failed in a row, the last one: {why}")
        self._message = f"round {len(self._records) + 1} failed and is tried again: {why}"
        return self._open(at_s)

    def _fail(self, message: str) -> list[Instruction]:
        self._phase, self._message = "failed", message
        return []

    def _aggregate(self, at_s: float) -> list[Instruction]:
        self._collected = collected = self._rounds.take(at_s)
        number = len(self._records) + 1
        due = number % self._job.evaluate_every == 0 or number >= self._job.rounds
        task = Aggregate(
            job=self._job.name,
            weights=self._weights,
            updates=collected.updates,
            estimates=collected.estimates,
            gradients=collected.gradients,
            evaluate=due or self._job.target_accuracy is not None,
        )
        return [task]

    def _on_aggregated(self, result: Aggregated, at_s: float) -> list[Instruction]:
        collected, self._collected = self._collected, None
        if collected is None:
            return []
        if result.weights is None:
            return self._again(at_s, result.error)
        record = self._record(collected, result, at_s)
        self._tau = self._controller.next(self._tau, _report(record, collected, result.surface))
        self._failed_in_a_row, self._message = 0, ""
        if not self._tau.discard:
            self._weights = result.weights
        self._records.append(record)
        save = Save(job=self._job.name, weights=self._weights, records=tuple(self._records), attempt=self._attempt, tau=self._tau)
        if self._is_over():
            self._phase = "done"
            return [save]
        return [save, *self._open(at_s)]

    def _is_over(self) -> bool:
        if not self._records:
            return False
        target, last = self._job.target_accuracy, self._records[-1].accuracy
        reached = target is not None and last is not None and last >= target
        return reached or len(self._records) >= self._job.rounds or self._tau.finished

    def _record(self, collected: Collected, result: Aggregated, at_s: float) -> RoundRecord:
        sums = collected.sums
        relayed = self._job.architecture not in {"hierarchical", "split"}  # the same frames have crossed both links
        up = collected.up_bytes if relayed else round(sums.get("uplink_up_bytes", 0.0))
        down = collected.down_bytes if relayed else round(sums.get("uplink_down_bytes", 0.0))
        surface = result.surface
        return RoundRecord(
            round=len(self._records) + 1,
            tau=self._tau.tau,
            at_s=at_s - self._began_at_s,
            clients=collected.clients,
            missing=collected.missing,
            loss=collected.loss,
            accuracy=result.accuracy,
            test_loss=result.test_loss,
            compute_s=collected.compute_s,
            transfer_s=collected.transfer_s,
            waiting_s=max(0.0, collected.lasted_s - collected.compute_s - collected.transfer_s),
            up_bytes=(up, collected.up_bytes),
            down_bytes=(down, collected.down_bytes),
            device_joules=sums.get("joules", 0.0),
            refused=collected.refused,
            raw_bytes=round(sums.get("raw_bytes", 0.0)),
            base_s=self._base_s if not self._records else 0.0,
            epsilon=result.epsilon,
            surface=(surface.lipschitz, surface.smoothness, surface.divergence) if surface is not None else None,
        )


RECORDS_PER_REPORT = 50
"""A report stays within a header's size; who asks goes on after the last one that it heard of."""


def _controller(job: FitJob) -> TauController:
    if job.tau.rule == "adaptive":
        return AdaptiveTau(learning_rate=job.local.learning_rate, budget=job.tau.budget_s, phi=job.tau.phi, max_tau=job.tau.max_tau)
    return FixedTau(tau=job.tau.tau)


def _report(record: RoundRecord, collected: Collected, surface: LossSurface | None) -> RoundReport:
    """What the round cost in seconds: c of one step, b of one aggregation."""
    total_s = collected.compute_s + collected.transfer_s + record.waiting_s
    return RoundReport(
        step_cost=collected.compute_s / record.tau,
        aggregation_cost=collected.transfer_s + record.waiting_s,
        spent=total_s,
        surface=surface,
    )
