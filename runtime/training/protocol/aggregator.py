"""An edge: averages its devices `edge_rounds` times, then is one client to the cloud.

The cloud's deadline is divided among what is to be done by then, so that a silent device does not cost the edge its answer.

Source: Liu et al., "Client-Edge-Cloud Hierarchical Federated Learning", ICC 2020, algorithm 1 (HierFAVG).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from runtime.messages import Ack, Contribution, Declined, FitJob, FitPhase, FitReport, Join, Round, UpdateHeader
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.client import REJOIN_S
from runtime.training.protocol.laid_base import LaidBase
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import Collected, News, Rounds, transfer_ids
from runtime.training.protocol.tasks import Aggregate, Aggregated, Decoded, Prepared, TrainerResult
from runtime.training.update import find_defect, read_vectors

ATTEMPTS_PER_ROUND = 1 << 20
"""Inner rounds are numbered within the outer one's range, so that numbers never repeat, whoever was restarted."""


class EdgeAggregator:
    """The edge of one job."""

    def __init__(self, job: FitJob, clients: tuple[str, ...], prepared: Prepared, ports: Ports) -> None:
        self._job, self._ports, self._num_parameters = job, ports, prepared.num_parameters
        self._rounds = Rounds(job, clients, prepared.num_parameters, ports)
        self._needs_base = job.transfer is not None and job.transfer.clients_need_base
        self._ids = transfer_ids()
        self._outer: Round | None = None
        self._arrived_at_s = 0.0
        self._base: np.ndarray | None = None
        self._weights: np.ndarray | None = None
        self._inner, self._failed, self._num_done, self._last_round = 0, 0, 0, -1
        self._collected: Collected | None = None
        self._sums: dict[str, float] = {}
        self._join_at_s = math.inf
        self._transfer: int | None = None
        self._sent_round = -1

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """Devices join and contribute, the cloud begins rounds."""
        match event.message:
            case Join() if event.source == "down":
                out = self._rounds.join(event.message, event.peer, event.at_s)
                if self._outer is None and math.isinf(self._join_at_s):
                    self._join_at_s = event.at_s + (0.0 if self._rounds.complete else REJOIN_S)
                return out
            case Contribution() if event.source == "down":
                return self._rounds.on_contribution(event, event.message)
            case Declined() if event.source == "down":
                self._rounds.on_declined(event.message, event.at_s)
                return self._go_on(event.at_s)
            case Round() if event.source == "up" and event.message.client == self._ports.name:
                return self._on_round(event, event.message)
            case _:
                return []

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """The trainer finished something."""
        if isinstance(result, Decoded):
            self._rounds.on_decoded(result)
            return self._go_on(at_s)
        return self._on_aggregated(result, at_s) if isinstance(result, Aggregated) else []

    def tick(self, at_s: float) -> list[Instruction]:
        """Deadline of the open round; joining above once the devices have joined here."""
        self._rounds.poll(at_s)
        out = self._go_on(at_s)
        if at_s >= self._join_at_s and len(self._rounds.joined) >= self._rounds.quorum:
            held = self._rounds.base.digest if self._rounds.base is not None else ""
            message = Join(job=self._job.name, client=self._ports.name, num_examples=self._rounds.num_examples, base=held)
            join = self._ports.up_control(message, at_s)
            self._join_at_s = at_s + REJOIN_S
            return [*out, join] if join is not None else out
        return out

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """As a client's."""
        if transfer_id == self._transfer:
            self._sent_round = -1
        return []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """As a client's."""
        return []

    @property
    def next_tick_at_s(self) -> float:
        """The round's deadline, or when to join."""
        return min(self._rounds.deadline_at_s, self._join_at_s)

    def report(self, request_id: int, since_round: int) -> FitReport:
        """Its devices, and how many rounds it has taken part in."""
        phase: FitPhase = "training" if self._num_done or self._outer is not None else "joining"
        return FitReport(request_id=request_id, job=self._job.name, phase=phase, round=self._num_done, joined=self._rounds.joined)

    # ------------------------------------------------------------ rounds

    def _on_round(self, event: Received, message: Round) -> list[Instruction]:
        ack = self._ports.up_control(Ack(request_id=message.request_id), event.at_s)
        out: list[Instruction] = [ack] if ack is not None else []
        if message.round == (self._outer.round if self._outer is not None else self._last_round):
            return out  # handed out again, while it is under way or once it was answered
        vectors = read_vectors(event.parcel)
        weights = vectors[0] if vectors and find_defect(vectors[0], self._num_parameters) is None else None
        self._rounds.base = LaidBase.of(vectors[1]) if len(vectors) > 1 else self._rounds.base
        if (why := self._reason_against(weights)) or weights is None:
            self._outer = None
            return [*out, *self._decline(message, why, event.at_s)]
        self._outer, self._arrived_at_s = message, event.at_s
        self._base = self._weights = weights
        self._inner = self._failed = 0
        self._sums, self._collected = {}, None
        self._join_at_s = math.inf
        return [*out, *self._open(event.at_s)]

    def _reason_against(self, weights: np.ndarray | None) -> str:
        if weights is None:
            return "weights of another network"
        if self._needs_base and self._rounds.base is None:
            return "no base here to hand out; it comes with the next round"
        return "" if self._rounds.joined else "no devices here"

    def _open(self, at_s: float) -> list[Instruction]:
        assert self._outer is not None
        assert self._weights is not None
        number = self._outer.round * ATTEMPTS_PER_ROUND + self._inner + self._failed
        num_shares = self._job.edge_rounds - self._inner + 1  # one for the way up
        within_s = (self._arrived_at_s + self._outer.reply_within_s - at_s) / num_shares
        news = News(num_rounds=self._outer.num_rounds, loss=self._outer.loss, drift=self._outer.drift)
        return self._rounds.open(number, self._weights, self._outer.tau, at_s, within_s=max(0.0, within_s), news=news)

    def _go_on(self, at_s: float) -> list[Instruction]:
        if self._outer is None or self._weights is None or self._collected is not None:
            return []
        if self._rounds.phase == "failed":
            self._failed += 1
            if self._failed < self._job.max_failed_rounds:
                return self._open(at_s)
            outer, self._outer = self._outer, None
            return self._decline(outer, f"{self._failed} rounds without a quorum of devices", at_s)
        if self._rounds.phase != "closed":
            return []
        self._collected = self._rounds.take(at_s)
        last = self._inner + 1 >= self._job.edge_rounds
        task = Aggregate(
            job=self._job.name,
            weights=self._weights,
            updates=self._collected.updates,
            upwards=self._header(self._collected) if last else None,
            base=self._base,
            sent_round=self._sent_round,
        )
        return [task]

    def _on_aggregated(self, result: Aggregated, at_s: float) -> list[Instruction]:
        collected, self._collected = self._collected, None
        if collected is None or self._outer is None:
            return []
        if result.weights is None:
            outer, self._outer = self._outer, None
            return self._decline(outer, result.error, at_s)
        self._count(collected)
        self._weights = result.weights
        self._inner += 1
        return self._contribute(result, at_s) if result.header is not None else self._open(at_s)

    def _count(self, collected: Collected) -> None:
        """What the cloud is told of the inner rounds together."""
        more = {
            "compute_s": collected.compute_s,
            "transfer_s": collected.transfer_s,
            "joules": collected.sums.get("joules", 0.0),
            "uplink_up_bytes": float(collected.up_bytes),
            "uplink_down_bytes": float(collected.down_bytes),
            "missing": float(len(collected.missing)),
        }
        for name, value in more.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._sums["loss"] = collected.loss

    def _header(self, collected: Collected) -> UpdateHeader:
        assert self._outer is not None
        return UpdateHeader(
            client=self._ports.name,
            round=self._outer.round,
            num_examples=sum(update.header.num_examples for update in collected.updates),
            num_local_steps=self._outer.tau * self._job.edge_rounds,
        )

    def _contribute(self, result: Aggregated, at_s: float) -> list[Instruction]:
        assert result.header is not None
        assert self._outer is not None
        self._last_round, self._outer, self._join_at_s = self._outer.round, None, at_s + REJOIN_S
        self._num_done += 1
        metrics = self._sums | {"dwell_s": at_s - self._arrived_at_s}
        transfer_id = next(self._ids)
        message = Contribution(
            request_id=transfer_id,
            job=self._job.name,
            header=msgspec.structs.replace(result.header, metrics=metrics),
            compressor=self._job.compressor,
            parameters=result.parameters,
        )
        sent = self._ports.up(transfer_id, message, result.parcel, at_s)
        self._transfer, self._sent_round = transfer_id, result.header.round if sent is not None else -1
        return [sent.send] if sent is not None else []

    def _decline(self, outer: Round, why: str, at_s: float) -> list[Instruction]:
        self._last_round, self._join_at_s = outer.round, at_s + REJOIN_S
        declined = Declined(job=self._job.name, client=self._ports.name, round=outer.round, message=why[:500])
        send = self._ports.up_control(declined, at_s)
        return [send] if send is not None else []
