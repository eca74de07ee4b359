"""An edge among others: a node that hands work sideways when a neighbour would be done sooner.

    Work --> [what a neighbour would take: handover.py] --+--> as any node                        sooner here
                                                          +--> Work to it, Result back --> down   sooner there

What a neighbour refuses, fails, or has when it falls silent is taken back and done here, if its deadline allows.
What it answers after that is counted (`late_handovers`) and ignored.  Work that came from a neighbour is never handed
on; its answer goes back the way it came.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from runtime.inference.cache import CacheConfig
from runtime.messages import Ack, Decision, EpisodeStarted, Failure, Pong, Result, Span, StartEpisode, Status, StatusReport, Work
from runtime.models.manifest import StoredFile
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Instruction, Received, Undelivered
from runtime.protocol.handover import HandoverConfig, choose
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.identity import Identity
from runtime.protocol.neighbour import Neighbour
from runtime.protocol.node_machine import NodeMachine
from runtime.protocol.residency import Residency
from runtime.protocol.task import Handover, Task


class EdgeMachine(NodeMachine):
    """State of an edge node.  Without `handover` it hands nothing over; what others hand to it, it does in any case."""

    def __init__(
        self,
        identity: Identity,
        models: HostedModels,
        upstream: Connection | None,
        downstream: Downstream,
        *,
        cache: CacheConfig | None = None,
        manifests: Mapping[str, StoredFile] | None = None,
        residency: Residency | None = None,
        neighbours: Mapping[bytes, Connection] | None = None,
        handover: HandoverConfig | None = None,
    ) -> None:
        """`neighbours` by name, as Sends and events have it."""
        super().__init__(identity, models, upstream, downstream, cache=cache, manifests=manifests, residency=residency)
        self._neighbours = {name: Neighbour(connection) for name, connection in (neighbours or {}).items()}
        self._handover = handover
        self._starting_beside: set[bytes] = set()

    # ------------------------------------------------------------ messages

    def _on_message(self, event: Received) -> list[Instruction]:
        if event.source == "neighbour":
            return self._on_message_beside(event, self._neighbours[event.peer])
        return super()._on_message(event)

    def _on_message_beside(self, event: Received, neighbour: Neighbour) -> list[Instruction]:
        neighbour.connection.heard(event.at_s)
        match event.message:
            case Ack(request_id=request_id):
                neighbour.on_ack(request_id, event.at_s)
            case Pong():
                neighbour.on_pong(event.message, event.at_s)
            case Result():
                return self._on_result_beside(event, event.message)
            case Failure(request_id=request_id):
                return self._on_failure_beside(event.peer, request_id, event.at_s)
            case EpisodeStarted(seed=seed):
                if self._episode.is_under_way(seed):
                    return self._started_beside(event.peer, event.at_s)
            case _:
                self.counters["unexpected"] += 1
        return []

    # ------------------------------------------------------------ handing over

    def _advance(self, task: Task, decision: Decision, at_s: float) -> list[Instruction]:
        name = self._whom(task, decision, at_s)
        return self._hand_over(task, decision, name, at_s) if name is not None else super()._advance(task, decision, at_s)

    def _whom(self, task: Task, decision: Decision, at_s: float) -> bytes | None:
        """The neighbour that should do this node's share; None: this node."""
        start, stop = self.models.of(decision).stage_range(decision, self.identity.tier)
        if self._handover is None or start == stop or task.handed_over or at_s >= task.expires_at_s:
            return None
        expected_s, lane = self._scheduler.expected_s(decision), self.identity.tenancy.lane(task.tenant)
        here_s = self._scheduler.expected_wait_s(task.tenant, at_s) + expected_s
        there_s = {name: beside.finish_s(task.parcel, expected_s, lane, at_s) for name, beside in self._neighbours.items()}
        return choose(here_s, there_s, self._handover.margin_s)

    def _hand_over(self, task: Task, decision: Decision, name: bytes, at_s: float) -> list[Instruction]:
        start, _ = self.models.of(decision).stage_range(decision, self.identity.tier)
        work = Work(
            request_id=task.request_id,
            decision=decision,
            stage=start,
            budget_s=task.expires_at_s - at_s,
            tenant=task.tenant,
            fresh=task.fresh,
            handed_over=True,
        )
        send, sent_bytes = self._neighbours[name].give(work, task.parcel, self._scheduler.expected_s(decision), at_s)
        task.handover = Handover(neighbour=name, begun_at_s=at_s, sent_bytes=sent_bytes)
        self.counters["handed_over"] += 1
        return [send]

    def _on_result_beside(self, event: Received, result: Result) -> list[Instruction]:
        task = self._with(event.peer, result.request_id)
        if task is None or task.handover is None:
            self.counters["late_handovers"] += 1
            return []
        self._neighbours[event.peer].forget(task.request_id)
        theirs, *above = result.spans or (Span(),)
        task.handover.ended_at_s, task.handover.returned_bytes, task.handover.span = event.at_s, event.num_bytes, theirs
        task.reused, task.reused_at, task.upstream_spans = result.reused, result.reused_at, tuple(above)
        self.counters["handovers_answered"] += 1
        return self._finish(task, event.parcel, result.exit, event.at_s)

    # ------------------------------------------------------------ taking back

    def _on_failure_beside(self, name: bytes, request_id: int, at_s: float) -> list[Instruction]:
        """Whatever its reason, it need not be one here: another queue, another way up, other ids in use."""
        task = self._with(name, request_id)
        if task is None:
            self.counters["late_handovers"] += 1
            return []
        return self._take_back(task, at_s)

    def _take_back(self, task: Task, at_s: float) -> list[Instruction]:
        assert task.handover is not None, "only what was handed over is taken back"
        assert task.decision is not None, "work comes with its decision"
        self._neighbours[task.handover.neighbour].forget(task.request_id)
        task.handover.ended_at_s = task.ready_at_s = at_s
        self.counters["taken_back"] += 1
        if at_s >= task.expires_at_s:
            return self._fail(task, "deadline", f"expired while a neighbour of the {self.identity.tier} had it", at_s)
        return super()._advance(task, task.decision, at_s)

    def _neighbour_lost(self, name: bytes, at_s: float) -> list[Instruction]:
        self._neighbours[name].forget_all()
        held = [task for task in self._tasks.values() if self._with(name, task.request_id) is not None]
        return [*self._started_beside(name, at_s), *(instruction for task in held for instruction in self._take_back(task, at_s))]

    def _on_undelivered(self, event: Undelivered) -> list[Instruction]:
        if event.target != "neighbour":
            return super()._on_undelivered(event)
        self.counters["undelivered_neighbour"] += 1
        task = self._tasks.get(event.request_id)
        return self._take_back(task, event.at_s) if task is not None and task.beside else []

    def _with(self, name: bytes, request_id: int) -> Task | None:
        """The request, if this neighbour has it now."""
        task = self._tasks.get(request_id)
        return task if task is not None and task.beside and task.handover is not None and task.handover.neighbour == name else None

    # ------------------------------------------------------------ as any node, and beside that

    def _accept(self, task: Task) -> None:
        self.counters["from_neighbours"] += task.handed_over
        super()._accept(task)

    def _fail(self, task: Task, status: Status, message: str, at_s: float) -> list[Instruction]:
        if task.beside and task.handover is not None:
            self._neighbours[task.handover.neighbour].forget(task.request_id)
        return super()._fail(task, status, message, at_s)

    @property
    def next_tick_at_s(self) -> float:
        """Also when a neighbour is to be asked how it is."""
        own_s = super().next_tick_at_s
        return min(own_s, *(beside.connection.next_tick_at_s for beside in self._neighbours.values())) if self._neighbours else own_s

    def _on_tick(self, at_s: float) -> list[Instruction]:
        out = super()._on_tick(at_s)
        for name, beside in self._neighbours.items():
            out.extend(beside.connection.tick(at_s))
            if not beside.connection.reachable(at_s):
                out.extend(self._neighbour_lost(name, at_s))
        return out

    def _status(self, request_id: int, at_s: float) -> StatusReport:
        report, known = super()._status(request_id, at_s), self._neighbours.values()
        return msgspec.structs.replace(
            report,
            emulated=report.emulated or any(beside.connection.emulated for beside in known),
            neighbours=tuple(telemetry for beside in known for telemetry in beside.connection.telemetry(at_s)[:1]),
        )

    # ------------------------------------------------------------ episodes

    def _on_start_episode(self, peer: bytes, start: StartEpisode, at_s: float) -> list[Instruction]:
        """Neighbours begin it too; who is told by a neighbour leaves telling the others to it."""
        told = self._down.is_beside(peer)
        reached = {name: beside for name, beside in self._neighbours.items() if not told and beside.connection.reachable(at_s)}
        self._starting_beside = set(reached)
        out = super()._on_start_episode(peer, start, at_s)
        for beside in self._neighbours.values():
            beside.forget_all()
            beside.connection.restart_link(start.seed, self._episode.epoch_s)
        for beside in reached.values():
            out += [beside.connection.control(start, at_s, past_emulation=True), beside.connection.probe(at_s)]
        return out

    def _started_beside(self, name: bytes, at_s: float) -> list[Instruction]:
        """This neighbour has begun the episode, or is not waited for any more."""
        if name not in self._starting_beside:
            return []
        self._starting_beside.discard(name)
        return self._episode_ready(at_s)

    def _episode_ready(self, at_s: float) -> list[Instruction]:
        return [] if self._starting_beside else super()._episode_ready(at_s)
