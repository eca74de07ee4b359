"""A node between clients and the root that averages nothing: updates and examples go up whole, rounds down to their clients."""

from __future__ import annotations

import math

import msgspec

from runtime.codecs.parcel import Parcel
from runtime.messages import (
    Ack,
    Contribution,
    Declined,
    FitJob,
    FitPhase,
    FitReport,
    Gossip,
    Join,
    KeyBook,
    KeyShares,
    MaskKeys,
    PeerState,
    Revealed,
    Round,
    SealedShares,
    Survivors,
    Upload,
    Uploaded,
    Wanted,
)
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import transfer_ids
from runtime.training.protocol.tasks import TrainerResult


class Relay:
    """Knows behind which peer each client is."""

    def __init__(self, job: FitJob, ports: Ports) -> None:
        self._job, self._ports = job, ports
        self._peers: dict[str, bytes] = {}
        self._rounds = 0
        self._ids = transfer_ids()

    def on_message(self, event: Received) -> list[Instruction]:
        """Acknowledge payloads, and pass on."""
        match event.message:
            case Join(client=client) if event.source == "down":
                self._peers[client] = event.peer
                send = self._ports.up_control(event.message, event.at_s)
                return [send] if send is not None else []
            case Declined() | Uploaded() | MaskKeys() | KeyShares() | Revealed() if event.source == "down":
                send = self._ports.up_control(event.message, event.at_s)
                return [send] if send is not None else []
            case Gossip(request_id=request_id, target=target) if target in self._peers:
                return [*self._acknowledge(event, request_id), *self._pass_down(target, event.message, event.parcel, event.at_s)]
            case Contribution() | Upload() | PeerState() | Gossip() if event.source == "down":
                passed_on = self._pass_up(event.message, event.parcel, event.at_s)
                return [*self._acknowledge(event, event.message.request_id), *passed_on]
            case Round(request_id=request_id, client=client) if event.source == "up":
                self._rounds = max(self._rounds, event.message.round)
                return [*self._acknowledge(event, request_id), *self._pass_down(client, event.message, event.parcel, event.at_s)]
            case Wanted() | KeyBook() | SealedShares() | Survivors() if event.source == "up" and event.message.client in self._peers:
                client = event.message.client
                return [self._ports.down_control(self._peers[client], event.message, event.at_s)]
            case _:
                return []

    def _acknowledge(self, event: Received, request_id: int) -> list[Instruction]:
        ack = Ack(request_id=request_id)
        if event.source == "down":
            return [self._ports.down_control(event.peer, ack, event.at_s)]
        send = self._ports.up_control(ack, event.at_s)
        return [send] if send is not None else []

    def _pass_up(self, message: Contribution | Upload | PeerState | Gossip, parcel: Parcel, at_s: float) -> list[Instruction]:
        transfer_id = next(self._ids)
        sent = self._ports.up(transfer_id, msgspec.structs.replace(message, request_id=transfer_id), parcel, at_s)
        return [sent.send] if sent is not None else []  # the round's deadline counts it as missing

    def _pass_down(self, client: str, message: Round | Gossip, parcel: Parcel, at_s: float) -> list[Instruction]:
        peer = self._peers.get(client)
        if peer is None and isinstance(message, Round):
            unknown = Declined(job=self._job.name, client=client, round=message.round, message=f"{self._ports.name} does not know {client}")
            send = self._ports.up_control(unknown, at_s)
            return [send] if send is not None else []
        if peer is None:
            return []  # a half for a peer that was never here: its mass is lost
        transfer_id = next(self._ids)
        return [self._ports.down(peer, transfer_id, msgspec.structs.replace(message, request_id=transfer_id), parcel, at_s).send]

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """It computes nothing."""
        return []

    def tick(self, at_s: float) -> list[Instruction]:
        """Nothing is ever due."""
        return []

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """The round's deadline sees to it."""
        return []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """Its clients will hear no round, and join again."""
        return []

    @property
    def next_tick_at_s(self) -> float:
        """Never."""
        return math.inf

    def report(self, request_id: int, since_round: int) -> FitReport:
        """Its clients and the last round that it saw."""
        phase: FitPhase = "training" if self._rounds else "joining"
        return FitReport(request_id=request_id, job=self._job.name, phase=phase, round=self._rounds, joined=tuple(self._peers))
