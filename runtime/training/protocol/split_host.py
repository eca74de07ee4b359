"""The server of a split job: for each client below the stages behind the cut, and to the root above each client's update.

root ──Round (all weights)──► SplitTask ─► part down ──activations──► SplitTask ─► gradients down ──► ... ──part──► SplitTask
     ◄──────────────────────────────────────────────────────── Contribution (the update of all) ◄── update ◄─────────┘
To the root it looks as if every client had the whole network.  A round fails for a client that falls silent, or whose step
cannot be computed: Declined goes up, and down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from runtime.codecs.parcel import Parcel
from runtime.messages import Ack, Contribution, Declined, FitJob, FitPhase, FitReport, Join, Leg, Round, SplitStep, UpdateHeader
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import transfer_ids
from runtime.training.protocol.split_session import SplitSession
from runtime.training.protocol.split_tasks import Piece, SplitDone, SplitTask
from runtime.training.protocol.tasks import TrainerResult


@dataclass(slots=True)
class _Client:
    peer: bytes
    num_examples: int
    finished: int = -1
    """Round whose part has come."""


class SplitHost:
    """The server of one job."""

    def __init__(self, job: FitJob, clients: tuple[str, ...], ports: Ports) -> None:
        self._job, self._expected, self._ports = job, clients, ports
        self._ids = transfer_ids()
        self._clients: dict[str, _Client] = {}
        self._sessions: dict[str, SplitSession] = {}
        self._num_rounds = 0

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """Rounds from above, legs from below."""
        match event.message:
            case Join(client=client) if event.source == "down" and client in self._expected:
                return self._on_join(event.message, event.peer, event.at_s)
            case Round() if event.source == "up":
                return self._on_round(event, event.message)
            case SplitStep(client=client) if event.source == "down" and client in self._expected:
                ack = self._ports.down_control(event.peer, Ack(request_id=event.message.request_id), event.at_s)
                return [ack, *self._on_leg(event, event.message)]
            case Declined(client=client) if event.source == "down" and client in self._expected:
                session = self._sessions.get(client)
                if session is not None and session.round.round == event.message.round:
                    del self._sessions[client]
                send = self._ports.up_control(event.message, event.at_s)
                return [send] if send is not None else []
            case _:
                return []

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """A piece is computed: send it on."""
        session = self._sessions.get(result.client) if isinstance(result, SplitDone) else None
        if not isinstance(result, SplitDone) or session is None or not session.answers(result):
            return []
        if result.error:
            return self._fail(result.client, result.error, at_s)
        session.advance(result, at_s)
        if result.piece == "update":
            return self._finish(result, session, at_s)
        if result.piece == "weights":
            return []
        return self._reply(result.client, session, result.step, result.piece, result.parcel, at_s)

    def tick(self, at_s: float) -> list[Instruction]:
        """Clients that are silent for longer than they would try; parts that may not have arrived."""
        out: list[Instruction] = []
        for client in [name for name, session in self._sessions.items() if at_s >= self._silent_at_s(session)]:
            step, leg = self._sessions[client].due
            out.extend(self._fail(client, f"{client} fell silent before {leg} of step {step}", at_s))
        for client, session in self._sessions.items():
            if at_s >= self._resend_at_s(session):
                out.extend(self._again(client, session, at_s))
        return out

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """The round's deadline sees to it."""
        return []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """What is under way is finished; the root may be back by then."""
        return []

    @property
    def next_tick_at_s(self) -> float:
        """When the next client is silent for too long, or is sent its part again."""
        return min((min(self._silent_at_s(each), self._resend_at_s(each)) for each in self._sessions.values()), default=math.inf)

    def report(self, request_id: int, since_round: int) -> FitReport:
        """Its clients, and the last round that it saw."""
        phase: FitPhase = "training" if self._num_rounds else "joining"
        return FitReport(request_id=request_id, job=self._job.name, phase=phase, round=self._num_rounds, joined=tuple(self._clients))

    # ------------------------------------------------------------ clients and rounds

    def _on_join(self, join: Join, peer: bytes, at_s: float) -> list[Instruction]:
        """Pass it on; a client that joins in the middle of a round has forgotten it, and begins it again."""
        known = self._clients.get(join.client)
        self._clients[join.client] = _Client(
            peer=peer, num_examples=join.num_examples, finished=known.finished if known is not None else -1
        )
        send = self._ports.up_control(join, at_s)
        out: list[Instruction] = [send] if send is not None else []
        session = self._sessions.get(join.client)
        if session is None:
            return out
        if session.heard == (0, "weights"):  # its part is on its way, unless that went to a connection that is no more
            moved = known is not None and known.peer != peer and session.waits_for_first_leg
            return [*out, *(self._again(join.client, session, at_s) if moved else [])]
        return [*out, self._begin(join.client, session.round, session.weights, session.arrived_at_s)]

    def _on_round(self, event: Received, message: Round) -> list[Instruction]:
        ack = self._ports.up_control(Ack(request_id=message.request_id), event.at_s)
        out: list[Instruction] = [ack] if ack is not None else []
        client = self._clients.get(message.client)
        if client is None or not client.num_examples:
            unknown = f"{self._ports.name} does not know {message.client}, or it has no examples"
            return [*out, *self._decline_up(message.client, message.round, unknown, event.at_s)]
        session = self._sessions.get(message.client)
        if message.round == (session.round.round if session is not None else client.finished):
            return out  # handed out again, before or behind the end
        self._num_rounds = max(self._num_rounds, message.round)
        return [*out, self._begin(message.client, message, event.parcel, event.at_s)]

    def _begin(self, client: str, message: Round, weights: Parcel, at_s: float) -> Instruction:
        self._sessions[client] = SplitSession(round=message, weights=weights, arrived_at_s=at_s)
        return self._task(client, message, 0, "weights", weights)

    def _on_leg(self, event: Received, message: SplitStep) -> list[Instruction]:
        client, session = self._clients.get(message.client), self._sessions.get(message.client)
        if client is not None:
            client.peer = event.peer
        if session is None or session.round.round != message.round:
            return [self._without_session(event.peer, client, message, event.at_s)]
        match session.react(message, event.at_s, event.num_bytes):
            case "compute":
                if message.leg == "activations" and not self._job.labels_stay and event.parcel.frames:
                    session.label_bytes += memoryview(event.parcel.frames[-1]).nbytes
                return [self._task(message.client, session.round, message.step, message.leg, event.parcel)]
            case "again":
                return self._again(message.client, session, event.at_s)
            case _:
                return []

    def _without_session(self, peer: bytes, client: _Client | None, message: SplitStep, at_s: float) -> Instruction:
        """Thanks, once more, for a part that has come; else this round is unknown here, after a restart of either."""
        if client is not None and client.finished == message.round and message.leg == "part":
            return self._done(peer, message.client, message.round, message.step, message.tau, 0.0, at_s)
        return self._decline_down(peer, message.client, message.round, f"{self._ports.name} knows nothing of this round", at_s)

    # ------------------------------------------------------------ sending

    def _task(self, client: str, message: Round, step: int, piece: Piece, parcel: Parcel) -> SplitTask:
        return SplitTask(job=self._job.name, client=client, round=message.round, step=step, tau=message.tau, piece=piece, parcel=parcel)

    def _reply(self, name: str, session: SplitSession, step: int, leg: Leg, parcel: Parcel, at_s: float) -> list[Instruction]:
        dwell_s = at_s - session.heard_at_s if leg != "part" else 0.0
        session.reply_parcel = parcel
        session.reply = SplitStep(
            request_id=0,
            job=self._job.name,
            client=name,
            round=session.round.round,
            step=step,
            leg=leg,
            tau=session.round.tau,
            dwell_s=dwell_s,
        )
        return self._again(name, session, at_s)

    def _again(self, name: str, session: SplitSession, at_s: float) -> list[Instruction]:
        """Send the last answer, for the first time or once more."""
        if session.reply is None:
            return []
        message = msgspec.structs.replace(session.reply, request_id=next(self._ids))
        sent = self._ports.down(self._clients[name].peer, message.request_id, message, session.reply_parcel, at_s)
        session.down_bytes += sent.num_bytes
        session.sent_at_s = at_s
        return [sent.send]

    def _finish(self, done: SplitDone, session: SplitSession, at_s: float) -> list[Instruction]:
        name, client = done.client, self._clients[done.client]
        del self._sessions[name]
        client.finished = done.round
        header = UpdateHeader(
            client=name,
            round=done.round,
            num_examples=client.num_examples,
            num_local_steps=session.round.tau,
            metrics=session.metrics(at_s),
        )
        transfer_id = next(self._ids)
        message = Contribution(
            request_id=transfer_id, job=self._job.name, header=header, compressor=self._job.compressor, parameters=done.parameters
        )
        sent = self._ports.up(transfer_id, message, done.parcel, at_s)
        dwell_s = at_s - session.heard_at_s
        thanks = self._done(client.peer, name, done.round, done.step, session.round.tau, dwell_s, at_s)
        return [*([sent.send] if sent is not None else []), thanks]  # unsent, the round's deadline counts it as missing

    def _done(self, peer: bytes, name: str, number: int, step: int, tau: int, dwell_s: float, at_s: float) -> Instruction:
        message = SplitStep(request_id=0, job=self._job.name, client=name, round=number, step=step, leg="done", tau=tau, dwell_s=dwell_s)
        return self._ports.down_control(peer, message, at_s)

    def _silent_at_s(self, session: SplitSession) -> float:
        if session.busy:
            return math.inf
        return session.alive_at_s + self._job.step_deadline_s * (2 + self._job.step_retries)  # the device gives up before

    def _resend_at_s(self, session: SplitSession) -> float:
        return session.sent_at_s + self._job.step_deadline_s if session.waits_for_first_leg else math.inf

    def _fail(self, name: str, why: str, at_s: float) -> list[Instruction]:
        number = self._sessions.pop(name).round.round
        down = self._decline_down(self._clients[name].peer, name, number, why, at_s)
        return [down, *self._decline_up(name, number, why, at_s)]

    def _decline_down(self, peer: bytes, name: str, number: int, why: str, at_s: float) -> Instruction:
        return self._ports.down_control(peer, Declined(job=self._job.name, client=name, round=number, message=why[:500]), at_s)

    def _decline_up(self, name: str, number: int, why: str, at_s: float) -> list[Instruction]:
        send = self._ports.up_control(Declined(job=self._job.name, client=name, round=number, message=why[:500]), at_s)
        return [send] if send is not None else []
