"""A node with data of its own: joins, takes local steps when a round comes, sends its update up.

Join (again and again) ──Round──► LocalSteps ──► LocalDone ──► Contribution up, or Declined
                                          └── nobody waits for it any more ──► CancelLocal
"""

from __future__ import annotations

import math

import msgspec

from runtime.codecs.parcel import Parcel
from runtime.messages import MASKED, Ack, Contribution, Declined, FitJob, FitPhase, FitReport, JobView, Join, Round
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.job_sight import ClientSight
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import transfer_ids
from runtime.training.protocol.tasks import CancelLocal, LocalDone, LocalSteps, Prepared, StepsTaken, TrainerResult

REJOIN_S = 1.0
"""Between two Joins of a client that has nothing to do: the aggregator may have been restarted, or a Round may be lost."""


class Client:
    """One client of one job."""

    def __init__(self, job: FitJob, prepared: Prepared, ports: Ports) -> None:
        self._job, self._ports = job, ports
        self._name, self._num_examples = ports.name, prepared.num_examples
        self._ids = transfer_ids()
        self._round: Round | None = None
        self._arrived_at_s = 0.0
        self._num_rounds, self._last_round = 0, -1
        self._join_at_s = 0.0
        self._transfer: int | None = None
        self._sent_round = -1
        self._answer: tuple[Contribution, Parcel] | None = None
        self._is_lost = False
        self._sent_bytes, self._sending_s = 0, 0.0
        self._base_digest = prepared.base_digest
        self.sight = ClientSight()
        """What it knows of the job."""

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """Only rounds concern a client."""
        message = event.message
        if event.source != "up" or not isinstance(message, Round) or message.client != self._name:
            return []
        ack = self._ports.up_control(Ack(request_id=message.request_id), event.at_s)
        out: list[Instruction] = [ack] if ack is not None else []
        self._join_at_s = math.inf
        if self._round is not None and message.round == self._round.round:
            return out  # handed out again while it is being worked on
        if self._round is None and message.round == self._last_round:
            self._join_at_s = event.at_s + REJOIN_S
            return [*out, *self._send_again(event.at_s)]  # or once its update was on its way
        if self._round is not None:
            out.append(CancelLocal(round=self._round.round))
        self._round, self._arrived_at_s = message, event.at_s
        self.sight.begin(message, event.at_s)
        steps = LocalSteps(
            job=self._job.name,
            round=message.round,
            tau=message.tau,
            weights=event.parcel,
            compare=message.compare,
            sent_round=self._sent_round,
        )
        return [*out, *self._begin(steps)]

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """Local steps are done: send what they brought."""
        if isinstance(result, StepsTaken):
            self.sight.advance(result.round, result.num_steps)
            return []
        if not isinstance(result, LocalDone) or self._round is None or result.round != self._round.round:
            return []
        self._base_digest = result.base_digest
        number, tau, self._round = self._round.round, self._round.tau, None
        self.sight.advance(number, tau)
        self._last_round, self._join_at_s = number, at_s + REJOIN_S
        if result.header is None:
            declined = Declined(job=self._job.name, client=self._name, round=number, message=result.error[:500])
            send = self._ports.up_control(declined, at_s)
            return [send] if send is not None else []
        return self._contribute(result, at_s)

    def tick(self, at_s: float) -> list[Instruction]:
        """Join, and join again; stop what would come too late."""
        if at_s >= self._useless_at_s and self._round is not None:
            number, self._round = self._round.round, None
            self._last_round, self._join_at_s = number, at_s + REJOIN_S
            return [CancelLocal(round=number)]
        if at_s < self._join_at_s:
            return []
        message = Join(job=self._job.name, client=self._name, num_examples=self._num_examples, base=self._base_digest)
        join = self._ports.up_control(message, at_s)
        self._join_at_s = at_s + REJOIN_S
        return [join] if join is not None else []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """It joins again as it always does; an update that is being made may still be wanted, one that was sent may be lost."""
        self._is_lost = True
        return []

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """The socket did not take it: the next update starts from what the compressor remembered before this one."""
        if transfer_id == self._transfer:
            self._sent_round, self._is_lost = -1, True
        return []

    @property
    def next_tick_at_s(self) -> float:
        """When to join, or to stop."""
        return min(self._join_at_s, self._useless_at_s)

    def report(self, request_id: int, since_round: int) -> FitReport:
        """Clients know their phase only."""
        phase: FitPhase = "training" if self._num_rounds or self._round is not None else "joining"
        tau = self._round.tau if self._round is not None else 0
        return FitReport(request_id=request_id, job=self._job.name, phase=phase, round=self._num_rounds, tau=tau)

    def view(self, at_s: float) -> JobView | None:
        """What it knows of the job, for whoever decides about the requests beside it."""
        return self.sight.view(at_s, self._ports.unacknowledged_bytes(self._transfer) if self._transfer is not None else 0)

    # ------------------------------------------------------------ details

    def _begin(self, steps: LocalSteps) -> list[Instruction]:
        """What comes first in a round."""
        return [steps]

    @property
    def _useless_at_s(self) -> float:
        """When the round that is worked on has ended without this client: its update would be sent to be refused."""
        return self._arrived_at_s + self._round.reply_within_s if self._round is not None else math.inf

    def _contribute(self, done: LocalDone, at_s: float) -> list[Instruction]:
        assert done.header is not None
        joules = self._ports.joules(done.compute_s, self._sent_bytes, self._sending_s)  # sending: of the update before
        measured = {"dwell_s": at_s - self._arrived_at_s, "compute_s": done.compute_s, "joules": joules}
        header = msgspec.structs.replace(done.header, metrics=done.header.metrics | measured)
        message = Contribution(
            request_id=next(self._ids),
            job=self._job.name,
            header=header,
            compressor=MASKED if self._job.secure_aggregation else self._job.compressor,
            parameters=done.parameters,
            estimate=done.estimate,
        )
        self._num_rounds += 1
        return self._send(message, done.parcel, at_s)

    def _send(self, message: Contribution, parcel: Parcel, at_s: float) -> list[Instruction]:
        self._answer = message, parcel
        sent = self._ports.up(message.request_id, message, parcel, at_s)
        self._sent_round, self._is_lost = message.header.round if sent is not None else -1, sent is None
        if sent is None:
            return []
        self._transfer, self._sent_bytes, self._sending_s = message.request_id, sent.num_bytes, sent.sending_s
        return [sent.send]

    def _send_again(self, at_s: float) -> list[Instruction]:
        """The round is still waiting for an update that has reason to be lost; the aggregator takes only one."""
        if self._answer is None or not self._is_lost or self._answer[0].header.round != self._last_round:
            return []
        message, parcel = self._answer
        return self._send(msgspec.structs.replace(message, request_id=next(self._ids)), parcel, at_s)
