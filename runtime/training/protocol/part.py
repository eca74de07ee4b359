"""What a node has of training jobs: one job at a time, in the role that the session gave it."""

from __future__ import annotations

import math
from typing import Protocol

from runtime.codecs.parcel import Parcel
from runtime.messages import Failure, FitQuery, FitReady, FitReport, FitStart, FitStop, JobView, Message, SetTau, Status
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.aggregator import EdgeAggregator
from runtime.training.protocol.central_root import CentralRoot
from runtime.training.protocol.client import Client
from runtime.training.protocol.masked_client import MaskedClient
from runtime.training.protocol.masked_root import MaskedRoot
from runtime.training.protocol.observer import Observer
from runtime.training.protocol.peer import Peer
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.relay import Relay
from runtime.training.protocol.root import Root
from runtime.training.protocol.rounds import TRANSFER_BASE
from runtime.training.protocol.split_client import SplitClient
from runtime.training.protocol.split_host import SplitHost
from runtime.training.protocol.tasks import Forget, Prepare, Prepared, TrainerResult
from runtime.training.protocol.uploader import Uploader

NOTHING = Parcel()


class Player(Protocol):
    """A role in a job."""

    def on_message(self, event: Received) -> list[Instruction]:
        """A message of the job came."""
        ...

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """The trainer finished a task."""
        ...

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """The socket upwards did not take a payload."""
        ...

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """The node above fell silent."""
        ...

    def tick(self, at_s: float) -> list[Instruction]:
        """Time passed."""
        ...

    @property
    def next_tick_at_s(self) -> float:
        """When `tick` has something to do."""
        ...

    def report(self, request_id: int, since_round: int) -> FitReport:
        """How far it is."""
        ...


class TrainingPart:
    """Takes training messages and results to the player of the job that is on."""

    def __init__(self, ports: Ports, slowdown: float) -> None:
        self._ports, self._slowdown = ports, slowdown
        self._start: FitStart | None = None
        self._number = 0
        """Of starts: what is prepared for one that was stopped may come after the next one of the same name."""
        self._asked_by: list[tuple[bytes, int]] = []
        self._prepared: Prepared | None = None
        self._player: Player | None = None

    @property
    def job(self) -> str:
        """Name of the job that is on; empty for none."""
        return self._start.job.name if self._start is not None else ""

    @property
    def next_tick_at_s(self) -> float:
        """When `tick` has something to do."""
        return self._player.next_tick_at_s if self._player is not None else math.inf

    def on_message(self, event: Received) -> list[Instruction]:
        """A training message came, from a session or from another node."""
        match event.message:
            case FitStart():
                return self._on_start(event.peer, event.message, event.at_s)
            case FitQuery(request_id=request_id, job=job):
                if job != self.job or self._player is None:
                    return [self._refuse(event.peer, request_id, f"no job {job!r} is on here", event.at_s)]
                report = self._player.report(request_id, event.message.since_round)
                return [self._ports.down_control(event.peer, report, event.at_s)]
            case FitStop(request_id=request_id, job=job):
                return self._on_stop(event.peer, request_id, job, event.at_s)
            case SetTau(job=job) if job == self.job and not self._decides_rounds:
                return self._pass_up(event.message, event.at_s) if event.source == "down" else []
            case _ if self._player is not None and getattr(event.message, "job", None) == self.job:
                return self._player.on_message(event)
            case _:
                return []

    def set_tau(self, tau: int, at_s: float) -> list[Instruction]:
        """A decision taken here came with a tau: tell the root, where the job is decided for."""
        if self._start is None or self._start.job.tau.rule != "decided":
            return []
        if isinstance(self._player, Client):
            self._player.sight.decide()
        message: Message = SetTau(job=self.job, tau=tau)
        return self.on_message(Received(source="down", message=message, parcel=NOTHING, num_bytes=0, at_s=at_s))

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """The trainer finished a task; those of jobs that are over are dropped."""
        if self._start is None or result.job != self.job:
            return []
        if isinstance(result, Prepared):
            return self._on_prepared(result, at_s) if result.number == self._number else []
        return self._player.on_done(result, at_s) if self._player is not None else []

    def tick(self, at_s: float) -> list[Instruction]:
        """Time passed."""
        return self._player.tick(at_s) if self._player is not None and at_s >= self._player.next_tick_at_s else []

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """The socket upwards did not take a payload."""
        return self._player.on_undelivered(transfer_id, at_s) if self._player is not None and transfer_id >= TRANSFER_BASE else []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """The node above fell silent."""
        return self._player.on_upstream_lost(at_s) if self._player is not None else []

    def view(self, at_s: float) -> JobView | None:
        """What is known here of a job that trains beside requests; None where nothing does."""
        return self._player.view(at_s) if isinstance(self._player, Client) else None

    @property
    def _decides_rounds(self) -> bool:
        return self._start is not None and self._start.role in {"root", "observer"}

    def _pass_up(self, message: Message, at_s: float) -> list[Instruction]:
        send = self._ports.up_control(message, at_s)
        return [send] if send is not None else []

    # ------------------------------------------------------------ starting and stopping

    def _on_start(self, peer: bytes, start: FitStart, at_s: float) -> list[Instruction]:
        if self._start is not None and self._start.job != start.job:
            return [self._refuse(peer, start.request_id, f"busy with job {self.job!r}; stop it first", at_s)]
        if self._start is not None and self._prepared is not None:
            return [self._ready(peer, start.request_id, self._prepared, at_s)]
        self._asked_by.append((peer, start.request_id))
        if self._start is not None:
            return []
        self._start, self._number = start, self._number + 1
        job, role, name = start.job, start.role, self._ports.name
        return [Prepare(job=job, role=role, node=name, client=start.client, slowdown=self._slowdown, number=self._number)]

    def _on_prepared(self, prepared: Prepared, at_s: float) -> list[Instruction]:
        asked, self._asked_by = self._asked_by, []
        if prepared.error or self._start is None:
            self._start = None
            return [self._refuse(peer, request_id, prepared.error, at_s) for peer, request_id in asked]
        self._prepared = prepared
        self._player = self._make_player(self._start, prepared, at_s)
        return [*(self._ready(peer, request_id, prepared, at_s) for peer, request_id in asked), *self.tick(at_s)]

    def _make_player(self, start: FitStart, prepared: Prepared, at_s: float) -> Player:
        match start.role:
            case "root" if start.job.architecture == "centralised":
                return CentralRoot(start.job, start.clients, prepared, self._ports, at_s)
            case "client" if start.job.architecture == "centralised":
                return Uploader(start.job, prepared, self._ports)
            case "client" if start.job.architecture == "split":
                return SplitClient(start.job, prepared, self._ports)
            case "server":
                return SplitHost(start.job, start.clients, self._ports)
            case "root" if start.job.secure_aggregation:
                return MaskedRoot(start.job, start.clients, prepared, self._ports, at_s)
            case "client" if start.job.secure_aggregation:
                return MaskedClient(start.job, prepared, self._ports)
            case "root":
                return Root(start.job, start.clients, prepared, self._ports, at_s)
            case "aggregator":
                return EdgeAggregator(start.job, start.clients, prepared, self._ports)
            case "relay":
                return Relay(start.job, self._ports)
            case "client":
                return Client(start.job, prepared, self._ports)
            case "observer":
                return Observer(start.job, start.clients, prepared, self._ports, at_s)
            case "peer":
                return Peer(start.job, start.clients, prepared, self._ports)

    def _on_stop(self, peer: bytes, request_id: int, job: str, at_s: float) -> list[Instruction]:
        if job != self.job:
            return [self._refuse(peer, request_id, f"no job {job!r} is on here", at_s)]
        report = self._player.report(request_id, 0) if self._player is not None else None
        self._start = self._prepared = self._player = None
        asked, self._asked_by = self._asked_by, []
        refusals = [self._refuse(other, number, f"job {job!r} was stopped before it was ready", at_s) for other, number in asked]
        answer = report or FitReport(request_id=request_id, job=job, phase="joining", round=0)
        return [Forget(job=job), *refusals, self._ports.down_control(peer, answer, at_s)]

    def _ready(self, peer: bytes, request_id: int, prepared: Prepared, at_s: float) -> Instruction:
        ready = FitReady(
            request_id=request_id,
            num_examples=prepared.num_examples,
            num_parameters=prepared.num_parameters,
            resumed_round=len(prepared.records),
        )
        return self._ports.down_control(peer, ready, at_s)

    def _refuse(self, peer: bytes, request_id: int, message: str, at_s: float, status: Status = "bad_input") -> Instruction:
        return self._ports.down_control(peer, Failure(request_id=request_id, status=status, message=message), at_s)
