"""What every node does: compute its share of a request, pass the rest up, pass the answer down.

A cloud node is exactly this; an edge adds its neighbours (edge_machine.py), a device the front (device_machine.py).
Life of a request here:

    Work --Ack--> [wait] --Run--> Computed --+--> Result down            its exit's head was here
                                             +--> Work up, Result up's --> Result down
    and at any point: Failure down (deadline, overload, peer_lost, bad_input, internal)

With a cache: Work --Ack--> Inspect --Inspected--> [known] --> Result down, else [wait] as above.
Where not everything is in memory: ... --Load--> Loaded --> [wait] as above (loading.py).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping
from typing import assert_never

from runtime.codec import to_frames
from runtime.codecs.parcel import Parcel
from runtime.energy import ComputePower, RadioPower
from runtime.errors import InvalidInput
from runtime.inference.cache import CacheConfig
from runtime.inference.tenancy import Refusal
from runtime.messages import (
    Ack,
    Decision,
    DistributionMessage,
    EpisodeStarted,
    Failure,
    Measure,
    Message,
    NodeTelemetry,
    Ping,
    Pong,
    Result,
    StartEpisode,
    Status,
    StatusQuery,
    StatusReport,
    TrainingMessage,
    Work,
)
from runtime.models.manifest import StoredFile
from runtime.models.pieces import Piece
from runtime.protocol.answer_memory import AnswerMemory
from runtime.protocol.connection import Connection
from runtime.protocol.distribution import Distribution
from runtime.protocol.downstream import Downstream
from runtime.protocol.episode_start import EpisodeStart
from runtime.protocol.events import (
    Computed,
    ComputedBatch,
    Event,
    FileKept,
    Inspected,
    Instruction,
    Loaded,
    MeasuredRun,
    PartRead,
    Received,
    Rejected,
    Run,
    RunBatch,
    RunMeasure,
    Send,
    Tick,
    Undelivered,
)
from runtime.protocol.fetching import Trouble
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.identity import Identity
from runtime.protocol.loading import Waiting
from runtime.protocol.measurements import Measurements
from runtime.protocol.model_line import ModelLine
from runtime.protocol.residency import Residency
from runtime.protocol.scheduler import Scheduler
from runtime.protocol.self_report import SelfReport
from runtime.protocol.task import NOTHING, Task
from runtime.protocol.training_ports import TrainingPorts
from runtime.training.protocol.part import TrainingPart
from runtime.training.protocol.rounds import TRANSFER_BASE
from runtime.training.protocol.tasks import TrainerDone


class NodeMachine:
    """State of a node.  `handle` is its only entrance."""

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
        power: tuple[ComputePower, RadioPower] | None = None,
    ) -> None:
        """`manifests` are the files that tell nodes below of the models; no `residency`: everything is in memory for good."""
        self.identity, self.models = identity, models
        self._memory = AnswerMemory(cache, models)
        self._up, self._down = upstream, downstream
        self._distribution = Distribution(models, manifests or {}, residency, upstream, downstream)
        self._scheduler = Scheduler(identity, models, upstream)
        self._measurements = Measurements(models, self._scheduler, downstream, identity, self._distribution.loading)
        self._line = ModelLine(self._distribution.loading, identity, models, self._scheduler, self._measurements)
        self._training = TrainingPart(TrainingPorts(identity, upstream, downstream, power), identity.slowdown)
        self._tasks: dict[int, Task] = {}
        self._timers: list[tuple[float, int]] = []
        self._episode = EpisodeStart(upstream, downstream)
        self.counters: Counter[str] = Counter()
        self._self_report = SelfReport(identity, models, self._scheduler, self._distribution, upstream, self.counters)

    # ------------------------------------------------------------ the entrance

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event, give back what is to be done."""
        match event:
            case Received():
                out = self._on_message(event)
            case Computed():
                self._scheduler.finished()
                out = self._on_computed(event, event.at_s)
            case ComputedBatch():
                self._scheduler.finished()
                self.counters["overruns"] += event.overran
                out = [instruction for row in event.rows for instruction in self._on_computed(row, event.at_s)]
            case MeasuredRun():
                self._scheduler.finished()
                out = self._measurements.done(event)
            case Inspected():
                out = self._on_inspected(event)
            case Loaded() | FileKept() | PartRead():
                out = self._distribution.on_event(event)
            case TrainerDone():
                out = self._training.on_done(event.result, event.at_s)
            case Tick():
                self._self_report.memory_bytes = event.memory_bytes or self._self_report.memory_bytes
                out = self._on_tick(event.at_s)
            case Undelivered():
                out = self._on_undelivered(event)
            case Rejected():
                self.counters["malformed"] += 1
                return []
            case _:
                assert_never(event)
        if self._line.num_waiting:
            out += self._go_on_loading(event.at_s)
        if self._scheduler.may_start:
            return [*self._start_next(event.at_s), *out]  # the worker first: sending need not delay computing
        return out

    @property
    def next_tick_at_s(self) -> float:
        """When a Tick is due: the next request's expiry or ping, or the start of what is held back."""
        while self._timers and self._timers[0][1] not in self._tasks:
            heapq.heappop(self._timers)  # nobody waits for it any more
        return min(
            self._timers[0][0] if self._timers else math.inf,
            self._scheduler.next_start_at_s,
            self._distribution.next_tick_at_s,
            self._training.next_tick_at_s,
            self._up.next_tick_at_s if self._up is not None else math.inf,
        )

    # ------------------------------------------------------------ messages

    def _on_message(self, event: Received) -> list[Instruction]:
        if event.source == "up" and self._up is not None:
            self._up.heard(event.at_s)
        match event.source, event.message:
            case _, message if isinstance(message, DistributionMessage):
                return self._distribution.on_message(event, message)
            case _, message if isinstance(message, TrainingMessage):
                return self._training.on_message(event)
            case "up", message:
                return self._on_answer(event, message)
            case "down", Work() as work:
                return self._on_work(event, work)
            case "down", Ping(sequence=sequence, beside=beside):
                self._down.is_node(event.peer, beside)
                return [self._down.control(event.peer, self._self_report.pong(sequence, event.at_s), event.at_s)]
            case "down", StartEpisode() as start:
                return self._on_start_episode(event.peer, start, event.at_s)
            case "down", Measure() as measure:
                return self._measurements.ask(event.peer, measure, event.at_s)
            case "down", StatusQuery(request_id=request_id):
                return [Send(target="down", peer=event.peer, frames=to_frames(self._status(request_id, event.at_s)))]
        return self._unexpected()

    def _on_answer(self, event: Received, message: Message) -> list[Instruction]:
        """From above; from anybody else it is not believed."""
        match message:
            case Ack(request_id=request_id):
                return self._on_ack(request_id, event.at_s)
            case Result():
                return self._on_result(event, message)
            case Failure():
                return self._on_failure(message, event.at_s)
            case Pong():
                return self._on_pong(message, event.at_s)
            case EpisodeStarted(seed=seed):
                self._episode.started_above(seed)
                return self._episode_ready(event.at_s)
        return self._unexpected()

    def _unexpected(self) -> list[Instruction]:
        """A message that nobody sends to this node, or not from there."""
        self.counters["unexpected"] += 1
        return []

    def _on_work(self, event: Received, work: Work) -> list[Instruction]:
        out: list[Instruction] = []
        known = self._tasks.get(work.request_id)
        if known is not None and known.handed_over and not work.handed_over:  # who handed it over has taken it back
            out, known = self._fail(known, "peer_lost", "taken back by the node that had handed it over", event.at_s), None
        if known is not None:
            self.counters["duplicates"] += 1
            if known.peer == event.peer:
                return []  # a retry of what is being done already
            return [self._failure_down(event.peer, work.request_id, "bad_input", "this request id is in use", event.at_s)]
        out.append(self._down.control(event.peer, Ack(request_id=work.request_id), event.at_s))
        try:
            self._check_work(work.decision, work.stage, event.parcel)
        except InvalidInput as exc:
            self.counters["bad_input"] += 1
            return [*out, self._failure_down(event.peer, work.request_id, "bad_input", str(exc), event.at_s)]
        task = Task(
            request_id=work.request_id,
            peer=event.peer,
            arrived_at_s=event.at_s,
            ready_at_s=event.at_s,
            expires_at_s=event.at_s + work.budget_s,
            parcel=event.parcel,
            decision=work.decision,
            tenant=work.tenant,
            fresh=work.fresh,
            handed_over=work.handed_over,
        )
        self._accept(task)
        if self._memory.in_use and not task.fresh:
            return [*out, self._memory.inspect(task, work.stage, self.identity.slowdown)]
        return [*out, *self._advance(task, work.decision, event.at_s)]

    def _check_work(self, decision: Decision, stage: int, parcel: Parcel) -> None:
        """Raise InvalidInput unless this work is ours to do and its tensors are those of the stage."""
        manifest = self.models.check(decision)
        start, _ = manifest.stage_range(decision, self.identity.tier)
        if stage != start or stage >= manifest.end(decision):
            raise InvalidInput(f"work at stage {stage} does not belong on the {self.identity.tier} under cuts {decision.cuts}")
        if parcel.codec != decision.codec:
            raise InvalidInput(f"the decision says codec {decision.codec!r}, the tensors came as {parcel.codec!r}")
        manifest.check_tensors(decision.variant, stage, parcel.specs)

    def _on_ack(self, request_id: int, at_s: float) -> list[Instruction]:
        if self._up is not None:
            self._up.on_ack(request_id, at_s)
        return []

    def _on_result(self, event: Received, result: Result) -> list[Instruction]:
        task = self._handed(result.request_id)
        if task is None:
            self.counters["late_results"] += 1
            return []
        task.reused, task.reused_at = result.reused, result.reused_at
        task.answered_at_s = event.at_s
        task.returned_bytes = event.num_bytes
        task.upstream_spans = result.spans
        return self._finish(task, event.parcel, result.exit, event.at_s)

    def _on_failure(self, failure: Failure, at_s: float) -> list[Instruction]:
        task = self._handed(failure.request_id)
        return self._fail(task, failure.status, failure.message, at_s) if task is not None else []

    def _handed(self, request_id: int) -> Task | None:
        """The request, if the node above has it; else what is said of it there is about an earlier one of its id."""
        task = self._tasks.get(request_id)
        return task if task is not None and task.handed_at_s else None

    # ------------------------------------------------------------ reusing answers

    def _on_inspected(self, event: Inspected) -> list[Instruction]:
        task = self._tasks.get(event.request_id)
        if task is None or task.parcel is not event.parcel or task.inspected_at_s:
            self.counters["late_inspections"] += 1
            return []
        if event.error:
            return self._fail(task, "bad_input", event.error, event.at_s)
        if event.at_s >= task.expires_at_s:
            return self._fail(task, "deadline", f"expired while the {self.identity.tier} looked at the input", event.at_s)
        task.fingerprint, task.inspect_s = event.fingerprint, event.finished_at_s - event.started_at_s
        task.inspected_at_s = task.ready_at_s = event.at_s
        return self._go_on(task, event)

    def _go_on(self, task: Task, event: Inspected) -> list[Instruction]:
        """The input has been looked at: what now?"""
        assert task.decision is not None, "work comes with its decision"
        start, _ = self.models.of(task.decision).stage_range(task.decision, self.identity.tier)
        return self._recall_or_advance(task, task.decision, start, event.at_s)

    def _recall_or_advance(self, task: Task, decision: Decision, stage: int, at_s: float) -> list[Instruction]:
        """Answer from memory if the answer is known, else see to it that it is computed."""
        known = self._memory.recall(task, decision, stage, self.identity.tier, at_s)
        return self._finish(task, known.logits, known.exit, at_s) if known is not None else self._advance(task, decision, at_s)

    # ------------------------------------------------------------ a request's way

    def _accept(self, task: Task) -> None:
        self._tasks[task.request_id] = task
        self.counters["requests"] += 1
        heapq.heappush(self._timers, (task.expires_at_s, task.request_id))

    def _advance(self, task: Task, decision: Decision, at_s: float) -> list[Instruction]:
        """Compute our stages if the decision gives us any, or only encode, else pass the work up as it is."""
        start, stop = self.models.of(decision).stage_range(decision, self.identity.tier)
        if start == stop and task.parcel.codec == decision.codec:
            return self._pass_up(task, decision, stop, task.parcel, at_s)
        entry = self._line.enter(task, decision, at_s)
        if isinstance(entry, Trouble):
            return self._fail(task, entry.status, f"{self.identity.tier}: {entry.message}", at_s)
        return self._offer(task, decision, at_s) if entry == "ready" else []

    def _offer(self, task: Task, decision: Decision, at_s: float) -> list[Instruction]:
        refusal = self._scheduler.offer(task, decision, at_s)
        return self._refused(task, refusal, at_s) if refusal is not None else []

    def _refused(self, task: Task, refusal: Refusal, at_s: float) -> list[Instruction]:
        self.counters[f"refused_{refusal.reason}"] += 1
        return self._fail(task, refusal.status, f"{self.identity.tier}: {refusal.message}", at_s)

    def _start_next(self, at_s: float) -> list[Instruction]:
        jobs, expired = self._scheduler.start_next(self._tasks, at_s)
        out: list[Instruction] = []
        for request_id in expired:
            out.extend(self._fail_id(request_id, "deadline", f"expired in the {self.identity.tier}'s queue", at_s))
        for job in jobs:
            if not isinstance(job, RunMeasure):
                self._started(job.rows if isinstance(job, RunBatch) else (job,), at_s)
        return [*out, *jobs]

    def _started(self, rows: tuple[Run, ...], at_s: float) -> None:
        if len(rows) > 1:
            self.counters["batches"] += 1
            self.counters["batched_requests"] += len(rows)
        for row in rows:
            task = self._tasks[row.request_id]
            task.started_at_s, task.rows = at_s, len(rows)

    def _on_computed(self, event: Computed, at_s: float) -> list[Instruction]:
        self.counters["overruns"] += event.overran
        task = self._tasks.get(event.request_id)
        if task is None or task.decision is None or not task.started_at_s:
            self.counters["late_computations"] += 1
            return []
        if event.error:
            return self._fail(task, "bad_input" if event.bad_input else "internal", event.error, at_s)
        task.started_at_s, task.computed_at_s, task.codec_s = event.started_at_s, event.finished_at_s, event.codec_s
        task.batch, task.pieces = event.batch, ()
        if event.exit is not None:
            return self._finish(task, event.parcel, event.exit, at_s)
        _, stop = self.models.of(task.decision).stage_range(task.decision, self.identity.tier)
        return self._pass_up(task, task.decision, stop, event.parcel, at_s)

    def _pass_up(self, task: Task, decision: Decision, stage: int, parcel: Parcel, at_s: float) -> list[Instruction]:
        if self._up is None or not self._up.reachable(at_s):
            return self._fail(task, "peer_lost", f"the {self.identity.tier} has nobody above it to go on at stage {stage}", at_s)
        budget_s = task.expires_at_s - at_s
        if budget_s <= 0:
            return self._fail(task, "deadline", f"expired on the {self.identity.tier}", at_s)
        work = Work(
            request_id=task.request_id,
            decision=decision,
            stage=stage,
            budget_s=budget_s,
            tenant=task.tenant,
            fresh=task.fresh,
            handed_over=task.handed_over,
        )
        send, task.sent_bytes, sending_s = self._up.payload(task.request_id, work, parcel, at_s)
        task.sending_s = sending_s if sending_s is not None else task.sent_bytes / self._up.estimator.rate_bytes_per_s
        task.handed_at_s = at_s
        task.parcel = NOTHING
        return [send]

    def _finish(self, task: Task, logits: Parcel, exit: int, at_s: float) -> list[Instruction]:
        """The logits are here: answer below."""
        del self._tasks[task.request_id]
        self.counters["results"] += 1
        self._memory.keep(task, logits, exit, at_s)
        result = Result(
            request_id=task.request_id,
            exit=exit,
            spans=(task.span(at_s), *task.upstream_spans),
            reused=task.reused,
            reused_at=task.reused_at,
        )
        return [self._down.payload(task.peer, task.request_id, result, logits, at_s)[0]]

    def _fail(self, task: Task, status: Status, message: str, at_s: float) -> list[Instruction]:
        """The request ends here without a result: say so below."""
        del self._tasks[task.request_id]
        self.counters[f"failed_{status}"] += 1
        return [self._failure_down(task.peer, task.request_id, status, message, at_s)]

    def _fail_id(self, request_id: int, status: Status, message: str, at_s: float) -> list[Instruction]:
        task = self._tasks.get(request_id)
        return self._fail(task, status, message, at_s) if task is not None else []

    def _on_undelivered(self, event: Undelivered) -> list[Instruction]:
        self.counters[f"undelivered_{event.target}"] += 1
        if event.target != "up":
            return []  # a client that went away needs no answer
        if event.request_id >= TRANSFER_BASE:
            return self._training.on_undelivered(event.request_id, event.at_s)
        task = self._handed(event.request_id)
        return self._fail(task, "peer_lost", f"nobody above the {self.identity.tier} took the work", event.at_s) if task is not None else []

    # ------------------------------------------------------------ loading models

    def _go_on_loading(self, at_s: float) -> list[Instruction]:
        """See who in the line for memory may go on, and whose pieces are there."""
        out: list[Instruction] = []
        while self._line.num_waiting:
            instructions, ended = self._line.step(self._tasks)
            out += instructions
            if not ended:
                break
            for token, pieces, trouble in ended:
                out += self._loaded(token, pieces, trouble, at_s)
        return out

    def _loaded(self, token: Waiting, pieces: tuple[Piece, ...], trouble: Trouble | None, at_s: float) -> list[Instruction]:
        if isinstance(token, RunMeasure):
            return self._measurements.go_on(token, trouble, at_s)
        if trouble is not None:
            return self._fail(token, trouble.status, f"{self.identity.tier}: {trouble.message}", at_s)
        assert token.decision is not None, "nothing is loaded before it is decided"
        token.pieces, token.loaded_at_s, token.ready_at_s = pieces, at_s, at_s
        return self._offer(token, token.decision, at_s)

    # ------------------------------------------------------------ time

    def _on_tick(self, at_s: float) -> list[Instruction]:
        out: list[Instruction] = []
        while self._timers and self._timers[0][0] <= at_s:
            _, request_id = heapq.heappop(self._timers)
            task = self._tasks.get(request_id)
            if task is not None and task.expires_at_s <= at_s:
                out.extend(self._fail(task, "deadline", f"deadline passed {task.whereabouts(self.identity.tier)}", at_s))
        out.extend(self._distribution.tick(at_s))
        out.extend(self._training.tick(at_s))
        if self._up is not None:
            out.extend(self._up.tick(at_s))
            if not self._up.reachable(at_s):
                out.extend(self._upstream_lost(at_s))
        return out

    def _upstream_lost(self, at_s: float) -> list[Instruction]:
        assert self._up is not None
        self._up.forget_transfers()
        out: list[Instruction] = self._training.on_upstream_lost(at_s)
        for task in [task for task in self._tasks.values() if task.handed_at_s]:
            out.extend(self._fail(task, "peer_lost", f"the node above the {self.identity.tier} fell silent", at_s))
        return out

    # ------------------------------------------------------------ telemetry and measuring

    def telemetry(self, at_s: float) -> tuple[NodeTelemetry, ...]:
        """This node's own, then what it knows of those above."""
        return self._self_report.telemetry(at_s)

    def _on_pong(self, pong: Pong, at_s: float) -> list[Instruction]:
        if self._up is not None and self._up.on_pong(pong, at_s):
            return self._episode_ready(at_s)
        return []

    def _status(self, request_id: int, at_s: float) -> StatusReport:
        counters = {**self.counters, **self._reuse_counters(), **self._distribution.counters()}
        return self._self_report.status(request_id, at_s, counters)

    def _reuse_counters(self) -> dict[str, int]:
        return self._memory.counters()

    # ------------------------------------------------------------ episodes

    def _on_start_episode(self, peer: bytes, start: StartEpisode, at_s: float) -> list[Instruction]:
        """Forget what is unfinished, and begin anew with all above."""
        self._tasks.clear()
        self._timers.clear()
        self._scheduler.clear()
        self._memory.forget()
        refusals = self._measurements.refuse_waiting("a new episode begins", at_s)
        unloads = self._line.begin_anew()
        out = self._episode.begin(peer, start, at_s)
        return [*refusals, *unloads, *out, *self._episode_ready(at_s)]

    def _episode_ready(self, at_s: float) -> list[Instruction]:
        """Something happened that the start of an episode may have waited for."""
        return self._episode.answer()

    # ------------------------------------------------------------ sending down

    def _failure_down(self, peer: bytes, request_id: int, status: Status, message: str, at_s: float) -> Send:
        return self._down.control(peer, Failure(request_id=request_id, status=status, message=message), at_s)
