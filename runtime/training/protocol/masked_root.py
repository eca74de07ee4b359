"""The root of a job with secure aggregation: between a round's last update and its aggregation, survivors unmask the sum.

a round:  open ─► closed ─► Survivors ─► Revealed from a threshold ─► Aggregate ─► record ─► Save ─► next
"""

from __future__ import annotations

import msgspec

from runtime.messages import FitJob, KeyShares, MaskKeys, Revealed, RoundRecord
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.masked_rounds import MaskedRounds
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.root import Root
from runtime.training.protocol.rounds import Collected
from runtime.training.protocol.tasks import Aggregate, Aggregated, Prepared


class MaskedRoot(Root):
    """Like every root, but what it has of a client is masked."""

    def __init__(self, job: FitJob, clients: tuple[str, ...], prepared: Prepared, ports: Ports, at_s: float) -> None:
        super().__init__(job, clients, prepared, ports, at_s)
        self._waiting: Aggregate | None = None

    def on_message(self, event: Received) -> list[Instruction]:
        """Masks' messages are the rounds' business."""
        if isinstance(event.message, MaskKeys | KeyShares | Revealed):
            return [*self._masked.on_masking(event), *self._go_on(event.at_s)] if event.source == "down" else []
        return super().on_message(event)

    @property
    def _masked(self) -> MaskedRounds:
        assert isinstance(self._rounds, MaskedRounds)
        return self._rounds

    def _make_rounds(self, clients: tuple[str, ...], num_parameters: int) -> MaskedRounds:
        return MaskedRounds(self._job, clients, num_parameters, self._ports)

    def _go_on(self, at_s: float) -> list[Instruction]:
        exchange, waiting = self._masked.exchange, self._waiting
        if waiting is None or exchange is None:
            return super()._go_on(at_s)
        if exchange.phase == "revealed":
            self._waiting = None
            return [msgspec.structs.replace(waiting, unmask=exchange.unmask())]
        if exchange.phase == "lost":
            self._waiting = self._collected = None
            return self._again(at_s, self._masked.failure)
        return []

    def _aggregate(self, at_s: float) -> list[Instruction]:
        (task,) = super()._aggregate(at_s)
        assert isinstance(task, Aggregate)
        assert self._masked.exchange is not None
        assert self._collected is not None
        self._waiting = task
        return self._masked.exchange.ask(self._collected.clients, at_s)

    def _record(self, collected: Collected, result: Aggregated, at_s: float) -> RoundRecord:
        record = super()._record(collected, result, at_s)
        assert self._masked.exchange is not None
        cost = self._masked.exchange.cost()
        by_wan = self._job.root == "cloud"
        up, down = ((uplink + more, wan + more if by_wan else 0) for (uplink, wan), more in (
            (record.up_bytes, cost.up_bytes), (record.down_bytes, cost.down_bytes)
        ))  # fmt: skip
        return msgspec.structs.replace(record, masking=cost, up_bytes=up, down_bytes=down)
