"""A client of a centralised job: joins, and sends the examples that the root says it has not got, piece by piece.

Join ──Wanted──► PackExamples ──► PackedExamples ──► Upload up ──Wanted──► ... ──Wanted (all)──► Uploaded up
Nothing is remembered of what was sent: after any loss it joins again, and the root says where to go on.
"""

from __future__ import annotations

from runtime.messages import FitJob, FitReport, Join, Upload, Uploaded, Wanted
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.central_tasks import PackedExamples, PackExamples
from runtime.training.protocol.client import REJOIN_S
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import transfer_ids
from runtime.training.protocol.tasks import Prepared, TrainerResult

REMIND_S = 5.0
"""Between two Joins of a client all of whose examples are with the root, in case that it was started anew without them."""


class Uploader:
    """One client of one job."""

    def __init__(self, job: FitJob, prepared: Prepared, ports: Ports) -> None:
        self._job, self._ports = job, ports
        self._num_examples = prepared.num_examples
        self._ids = transfer_ids()
        self._on_the_way: int | None = None
        """First example of the piece that is being packed or sent."""
        self._transfer: int | None = None
        self._num_held = 0
        self._join_at_s = 0.0
        self._joules = 0.0

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """The root says what it has."""
        message = event.message
        if event.source != "up" or not isinstance(message, Wanted) or message.client != self._ports.name:
            return []
        self._num_held = message.first
        if message.first >= self._num_examples:
            return self._on_complete(event.at_s)
        if message.first == self._on_the_way and event.at_s < self._join_at_s:
            return []
        self._on_the_way, self._join_at_s = message.first, event.at_s + self._job.step_deadline_s
        return [PackExamples(job=self._job.name, first=message.first)]

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """A piece is packed: send it."""
        if not isinstance(result, PackedExamples) or result.first != self._on_the_way or result.error:
            return []
        transfer_id = next(self._ids)
        message = Upload(request_id=transfer_id, job=self._job.name, client=self._ports.name, first=result.first, total=self._num_examples)
        sent = self._ports.up(transfer_id, message, result.parcel, at_s)
        if sent is None:
            self._lost(at_s)
            return []
        self._transfer, self._join_at_s = transfer_id, at_s + self._job.step_deadline_s + 4 * sent.sending_s  # two links, and back
        self._joules += self._ports.joules(0.0, sent.num_bytes, sent.sending_s)
        return [sent.send]

    def tick(self, at_s: float) -> list[Instruction]:
        """Join, and join again: before the first answer, when a piece was not answered, and now and then when all is done."""
        if at_s < self._join_at_s:
            return []
        self._on_the_way = None
        self._join_at_s = at_s + (REJOIN_S if self._num_held < self._num_examples else REMIND_S)
        join = self._ports.up_control(Join(job=self._job.name, client=self._ports.name, num_examples=self._num_examples), at_s)
        return [join] if join is not None else []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """What was on its way may not arrive."""
        self._lost(at_s)
        return []

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """The socket did not take the piece."""
        if transfer_id == self._transfer:
            self._lost(at_s)
        return []

    @property
    def next_tick_at_s(self) -> float:
        """When to join."""
        return self._join_at_s

    def report(self, request_id: int, since_round: int) -> FitReport:
        """Done with its part when all is with the root."""
        complete = self._num_held >= self._num_examples
        return FitReport(request_id=request_id, job=self._job.name, phase="training" if complete else "joining", round=0)

    # ------------------------------------------------------------ details

    def _on_complete(self, at_s: float) -> list[Instruction]:
        self._on_the_way, self._join_at_s = None, at_s + REMIND_S
        if not self._joules:
            return []
        told = self._ports.up_control(Uploaded(job=self._job.name, client=self._ports.name, joules=self._joules), at_s)
        if told is None:
            return []
        self._joules = 0.0
        return [told]

    def _lost(self, at_s: float) -> None:
        self._on_the_way = None
        self._join_at_s = min(self._join_at_s, at_s + REJOIN_S)
