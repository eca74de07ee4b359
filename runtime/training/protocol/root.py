"""The node above all others: begins rounds until the job is done, decides tau, keeps the records.

a round:  open ─► closed ─► Aggregate ─► Aggregated ─► next
                                             └─► Evaluate ─► Evaluated ─► record ─► Save        the job's phases: course.py

The next round begins as soon as there are weights to begin from: clients train while the root evaluates.  It waits for the
evaluation where that decides about it: in a job with a target, and where tau is decided by somebody who is told the loss.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from runtime.messages import Contribution, Declined, FitJob, FitReport, Join, RoundRecord, SetTau
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.course import Course
from runtime.training.protocol.laid_base import LaidBase
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import Collected, News, Rounds
from runtime.training.protocol.tasks import Aggregate, Aggregated, Decoded, Evaluate, Evaluated, Prepared, Save, Saved, TrainerResult
from runtime.training.tau_control import AdaptiveTau, DecidedTau, FixedTau, TauController, TauState, round_report

UNSAVED_ROUNDS = 2
"""The one that is evaluated while a crash comes, and the one under way; each may have been tried as often as the job allows."""


class Root:
    """The root of one job."""

    def __init__(self, job: FitJob, clients: tuple[str, ...], prepared: Prepared, ports: Ports, at_s: float) -> None:
        assert prepared.weights is not None, "a root is prepared with weights"
        self._job, self._ports = job, ports
        self._weights: np.ndarray = prepared.weights
        self._initial_loss = prepared.initial_loss
        self._rounds = self._make_rounds(clients, prepared.num_parameters)
        self._rounds.base = LaidBase.of(prepared.base) if prepared.base is not None else None
        self._base_s = prepared.base_s
        self._controller = _controller(job)
        self._compares = job.tau.rule == "adaptive" and job.architecture != "hierarchical"  # edges keep their devices' gradients
        self._tau = prepared.tau or self._controller.start()
        self._waits = job.target_accuracy is not None or job.tau.rule == "decided"
        unsaved = UNSAVED_ROUNDS * job.max_failed_rounds if prepared.records else 0
        self._attempt = max(prepared.attempt + unsaved, int(at_s))  # later than those of an earlier start, with a folder or without
        self._course = Course(job, prepared.records, at_s, finished=self._tau.finished)
        self._collected: Collected | None = None
        self._unsaved: Save | None = None
        """Of the round that is being evaluated."""

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """Clients join and contribute."""
        match event.message:
            case Join() if event.source == "down":
                return [*self._rounds.join(event.message, event.peer, event.at_s), *self._go_on(event.at_s)]
            case Contribution() if event.source == "down":
                return self._rounds.on_contribution(event, event.message)
            case Declined() if event.source == "down":
                return [*self._rounds.on_declined(event.message, event.at_s), *self._go_on(event.at_s)]
            case SetTau(tau=tau):
                self._course.want_tau(tau)
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
            case Evaluated():
                return self._on_evaluated(result, at_s)
            case Saved(error=error):
                self._course.kept(error)
                return []
            case _:
                return []

    def tick(self, at_s: float) -> list[Instruction]:
        """Deadlines of joining and of the open round."""
        return [*self._rounds.poll(at_s), *self._go_on(at_s)]

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """A root sends nothing up."""
        return []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """A root has nobody above."""
        return []

    @property
    def next_tick_at_s(self) -> float:
        """The next deadline."""
        if self._course.phase == "joining":
            return self._course.join_by_s
        return self._rounds.deadline_at_s if self._course.phase == "training" else math.inf

    def report(self, request_id: int, since_round: int) -> FitReport:
        """How far the job is, with records of rounds after `since_round`."""
        report = self._course.report(request_id, since_round, tau=self._tau.tau, joined=self._rounds.joined)
        return msgspec.structs.replace(report, initial_loss=self._initial_loss)

    # ------------------------------------------------------------ from round to round

    def _make_rounds(self, clients: tuple[str, ...], num_parameters: int) -> Rounds:
        return Rounds(self._job, clients, num_parameters, self._ports)

    def _go_on(self, at_s: float) -> list[Instruction]:
        """Whatever is due now: begin, aggregate, or try again."""
        rounds = self._rounds
        if self._course.try_to_begin(rounds.joined, rounds.num_expected, rounds.quorum, at_s):
            return self._open(at_s)
        if self._course.phase != "training" or self._collected is not None:
            return []
        if rounds.phase == "closed":
            return self._aggregate(at_s) if self._unsaved is None else []
        return self._again(at_s, rounds.failure) if rounds.phase == "failed" else []

    def _open(self, at_s: float) -> list[Instruction]:
        self._attempt += 1
        tau = self._course.decided_tau(otherwise=self._tau.tau)
        self._tau = TauState(tau=tau, spent=self._tau.spent, surface=self._tau.surface)
        return self._rounds.open(self._attempt, self._weights, tau, at_s, compare=self._compares, news=self._news())

    def _news(self) -> News:
        """Of the weights that a round begins with, or the last that were evaluated; a diverged round's were discarded, loss and all."""
        evaluated = [record.test_loss for record in reversed(self._course.records) if record.test_loss is not None]
        loss = next((loss for loss in (*evaluated, self._initial_loss) if loss is not None and math.isfinite(loss)), None)
        drift = self._course.records[-1].drift if self._course.records else None
        return News(num_rounds=self._course.num_rounds, loss=loss, drift=drift)

    def _again(self, at_s: float, why: str) -> list[Instruction]:
        return self._open(at_s) if self._course.try_again(why) else []

    def _aggregate(self, at_s: float) -> list[Instruction]:
        self._collected = collected = self._rounds.take(at_s)
        task = Aggregate(
            job=self._job.name,
            weights=self._weights,
            updates=collected.updates,
            estimates=collected.estimates,
            gradients=collected.gradients,
            sampled=collected.sampled,
        )
        return [task]

    def _on_aggregated(self, result: Aggregated, at_s: float) -> list[Instruction]:
        collected, self._collected = self._collected, None
        if collected is None:
            return []
        if result.weights is None:
            return self._again(at_s, result.error)
        record = self._record(collected, result, at_s)
        others_s = collected.transfer_s + record.waiting_s
        self._tau = self._controller.next(self._tau, round_report(record.tau, collected.compute_s, others_s, result.surface))
        if not self._tau.discard:
            self._weights = result.weights
        evaluated = self._course.next_is_evaluated or self._tau.finished
        self._course.add(record, finished=self._tau.finished, then_judged=evaluated, then_kept=True)
        save = Save(job=self._job.name, weights=self._weights, records=self._course.records, attempt=self._attempt, tau=self._tau)
        if not evaluated:
            return [*self._next(at_s), save]
        self._unsaved = save
        evaluate = Evaluate(job=self._job.name, weights=self._weights)
        return [evaluate] if self._waits else [*self._next(at_s), evaluate]

    def _on_evaluated(self, result: Evaluated, at_s: float) -> list[Instruction]:
        save, self._unsaved = self._unsaved, None
        if save is None:
            return []
        self._course.judged(result.accuracy, result.test_loss, result.error)
        out = self._next(at_s) if self._waits else []
        return [*out, msgspec.structs.replace(save, records=self._course.records), *self._go_on(at_s)]

    def _next(self, at_s: float) -> list[Instruction]:
        return [] if self._course.is_over else self._open(at_s)

    def _record(self, collected: Collected, result: Aggregated, at_s: float) -> RoundRecord:
        sums = collected.sums
        relayed = self._job.architecture not in {"hierarchical", "split"}  # the same frames have crossed both links
        up = collected.up_bytes if relayed else round(sums.get("uplink_up_bytes", 0.0))
        down = collected.down_bytes if relayed else round(sums.get("uplink_down_bytes", 0.0))
        surface, by_wan = result.surface, self._job.root == "cloud"
        return RoundRecord(
            round=self._course.num_rounds + 1,
            tau=self._tau.tau,
            at_s=self._course.lasted_s(at_s),
            clients=collected.clients,
            missing=collected.missing,
            loss=collected.loss,
            compute_s=collected.compute_s,
            transfer_s=collected.transfer_s,
            waiting_s=max(0.0, collected.lasted_s - collected.compute_s - collected.transfer_s),
            up_bytes=(up, collected.up_bytes if by_wan else 0),
            down_bytes=(down, collected.down_bytes if by_wan else 0),
            device_joules=sums.get("joules", 0.0),
            refused=collected.refused,
            raw_bytes=round(sums.get("raw_bytes", 0.0)),
            base_s=self._base_s if not self._course.num_rounds else 0.0,
            epsilon=result.epsilon,
            drift=result.drift,
            surface=msgspec.structs.astuple(surface) if surface is not None and surface.is_finite() else None,
        )


def _controller(job: FitJob) -> TauController:
    if job.tau.rule == "adaptive":
        return AdaptiveTau(learning_rate=job.local.learning_rate, budget=job.tau.budget_s, phi=job.tau.phi, max_tau=job.tau.max_tau)
    return DecidedTau(tau=job.tau.tau) if job.tau.rule == "decided" else FixedTau(tau=job.tau.tau)
