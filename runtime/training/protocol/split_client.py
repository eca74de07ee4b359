"""A client of a split job: has the stages in front of the cut, and answers every leg with the next one.

Join ──part──► SplitTask ─► activations up ──gradients──► SplitTask ─► activations of the next step up ──► ... ─► part up ──done
A leg without an answer is sent again as it was; the server computes with it once.  Only the answer to the leg that was sent
last is taken, so that no gradient is applied twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from runtime.codecs.parcel import Parcel
from runtime.messages import Ack, Declined, FitJob, FitPhase, FitReport, Join, SplitStep
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.client import REJOIN_S
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import transfer_ids
from runtime.training.protocol.split_tasks import SplitDone, SplitTask
from runtime.training.protocol.tasks import Prepared, TrainerResult

NOTHING = Parcel()


@dataclass(slots=True)
class _Turn:
    """A round that is on."""

    round: int
    tau: int
    began_at_s: float
    heard: SplitStep
    """The leg that is being answered, or was."""
    heard_at_s: float
    sent: SplitStep | None = None
    """The leg whose answer is waited for; None while computing."""
    parcel: Parcel = NOTHING
    sent_at_s: float = 0.0
    resend_at_s: float = math.inf
    give_up_at_s: float = math.inf
    transfer: int = -1
    compute_s: float = 0.0
    transfer_s: float = 0.0
    sent_bytes: int = 0
    sending_s: float = 0.0


class SplitClient:
    """The device of one job."""

    def __init__(self, job: FitJob, prepared: Prepared, ports: Ports) -> None:
        self._job, self._ports, self._num_examples = job, ports, prepared.num_examples
        self._ids = transfer_ids()
        self._turn: _Turn | None = None
        self._num_rounds = 0
        self._join_at_s = 0.0

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """The server's legs, and that it will not go on."""
        message = event.message
        if event.source != "up" or getattr(message, "client", None) != self._ports.name:
            return []
        if isinstance(message, Declined):
            if self._turn is not None and message.round == self._turn.round:
                self._turn, self._join_at_s = None, event.at_s
            return []
        if not isinstance(message, SplitStep):
            return []
        ack = self._ports.up_control(Ack(request_id=message.request_id), event.at_s) if message.leg != "done" else None
        return [*([ack] if ack is not None else []), *self._on_leg(message, event.parcel, event.at_s)]

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """A leg is answered: send the answer."""
        turn = self._turn
        if not isinstance(result, SplitDone) or turn is None or turn.sent is not None or not _answers(result, turn.heard):
            return []
        turn.compute_s += result.compute_s
        if result.error or result.piece == "weights" or result.piece == "update":  # noqa: PLR1714  # mypy narrows by these
            return self._give_up(turn, result.error or f"no leg: {result.piece}", at_s)
        turn.sent = SplitStep(
            request_id=0,
            job=self._job.name,
            client=self._ports.name,
            round=turn.round,
            step=result.step,
            leg=result.piece,
            tau=turn.tau,
            loss=result.loss,
            dwell_s=at_s - turn.heard_at_s,
            metrics=self._metrics(turn, at_s) if result.piece == "part" else {},
        )
        turn.parcel = result.parcel
        turn.give_up_at_s = at_s + self._job.step_deadline_s * (1 + self._job.step_retries)
        return self._send(turn, at_s)

    def tick(self, at_s: float) -> list[Instruction]:
        """Send again what was not answered, or give up; join where there is no round."""
        turn = self._turn
        if turn is not None:
            if at_s < turn.resend_at_s:
                return []
            if at_s >= turn.give_up_at_s and turn.sent is not None:
                return self._give_up(turn, f"the server did not answer {turn.sent.leg} of step {turn.sent.step} in time", at_s)
            return self._send(turn, at_s)
        if at_s < self._join_at_s:
            return []
        join = self._ports.up_control(Join(job=self._job.name, client=self._ports.name, num_examples=self._num_examples), at_s)
        self._join_at_s = at_s + REJOIN_S
        return [join] if join is not None else []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """Whoever comes back is sent the last leg."""
        if self._turn is not None and self._turn.sent is not None:
            self._turn.resend_at_s = min(self._turn.resend_at_s, at_s + REJOIN_S)
        return []

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """The socket did not take the leg."""
        if self._turn is not None and transfer_id == self._turn.transfer:
            self._turn.resend_at_s = at_s + REJOIN_S
        return []

    @property
    def next_tick_at_s(self) -> float:
        """When to send again, or to join."""
        return self._turn.resend_at_s if self._turn is not None else self._join_at_s

    def report(self, request_id: int, since_round: int) -> FitReport:
        """Clients know their phase only."""
        phase: FitPhase = "training" if self._num_rounds or self._turn is not None else "joining"
        tau = self._turn.tau if self._turn is not None else 0
        return FitReport(request_id=request_id, job=self._job.name, phase=phase, round=self._num_rounds, tau=tau)

    # ------------------------------------------------------------ details

    def _on_leg(self, message: SplitStep, parcel: Parcel, at_s: float) -> list[Instruction]:
        turn = self._turn
        if message.leg == "part":
            if turn is not None and (turn.round, turn.heard.leg) == (message.round, "part"):
                return []  # sent again, and the round has hardly begun
            self._turn = turn = _Turn(round=message.round, tau=message.tau, began_at_s=at_s, heard=message, heard_at_s=at_s)
            return [self._task(message, parcel)]
        if turn is None or turn.sent is None or not _follows(message, turn.sent, self._job.labels_stay):
            return []
        turn.transfer_s += max(0.0, at_s - turn.sent_at_s - message.dwell_s)
        if message.leg == "done":
            self._turn, self._num_rounds = None, self._num_rounds + 1
            self._join_at_s = at_s + REJOIN_S
            return []
        turn.heard, turn.heard_at_s, turn.sent, turn.resend_at_s = message, at_s, None, math.inf
        return [self._task(message, parcel)]

    def _task(self, message: SplitStep, parcel: Parcel) -> SplitTask:
        return SplitTask(
            job=self._job.name,
            client=self._ports.name,
            round=message.round,
            step=message.step,
            tau=message.tau,
            piece=message.leg,
            parcel=parcel,
        )

    def _send(self, turn: _Turn, at_s: float) -> list[Instruction]:
        assert turn.sent is not None
        turn.transfer = next(self._ids)
        message = msgspec.structs.replace(turn.sent, request_id=turn.transfer)
        sent = self._ports.up(turn.transfer, message, turn.parcel, at_s)
        turn.resend_at_s = at_s + (self._job.step_deadline_s if sent is not None else REJOIN_S)
        if sent is None:
            return []
        turn.sent_at_s = at_s
        turn.sent_bytes, turn.sending_s = turn.sent_bytes + sent.num_bytes, turn.sending_s + sent.sending_s
        return [sent.send]

    def _give_up(self, turn: _Turn, why: str, at_s: float) -> list[Instruction]:
        self._turn, self._join_at_s = None, at_s + REJOIN_S
        declined = Declined(job=self._job.name, client=self._ports.name, round=turn.round, message=why[:500])
        send = self._ports.up_control(declined, at_s)
        return [send] if send is not None else []

    def _metrics(self, turn: _Turn, at_s: float) -> dict[str, float]:
        """What the round has cost so far; the bytes of the last leg are left out."""
        joules = self._ports.joules(turn.compute_s, turn.sent_bytes, turn.sending_s)
        return {"compute_s": turn.compute_s, "transfer_s": turn.transfer_s, "dwell_s": at_s - turn.began_at_s, "joules": joules}


def _answers(done: SplitDone, heard: SplitStep) -> bool:
    return (done.round, done.heard, done.heard_step) == (heard.round, heard.leg, heard.step)


def _follows(message: SplitStep, sent: SplitStep, labels_stay: bool) -> bool:
    """Whether this is the answer to what was sent."""
    due = {"activations": "logits" if labels_stay else "gradients", "logit_gradients": "gradients", "part": "done"}
    return (message.round, message.step, message.leg) == (sent.round, sent.step, due[sent.leg])
