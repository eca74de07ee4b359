"""The device: takes requests from clients, has them decided, runs its share, and always answers.

    Submit --+-- decision given by the client ------------------+
             +-- Observation --> controller --Decided---------->+--> as any node --> Outcome
             +-- no answer within the budget, or Refused --> fallback

With a filter, a cache or a difficulty predictor the input is looked at first.  A stream's frame that the filter skips is
answered at once: what is known of it depends on no decision.  The cache is asked right after the decision, which says what is asked of it.

The device holds the authoritative deadline: whatever the nodes above do, the client hears by then.  Of requests that a new
episode finds unfinished it hears at once (`peer_lost`); the nodes above forget them without a word.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from runtime.codec import to_frames
from runtime.codecs.parcel import IDENTITY, Parcel, unpack
from runtime.energy import ComputePower, RadioPower
from runtime.errors import InvalidInput, MalformedMessage
from runtime.inference.cache import CacheConfig
from runtime.inference.difficulty import DifficultyPredictor
from runtime.messages import (
    TIERS,
    Breakdown,
    Decided,
    DecidedBy,
    Decision,
    LinkView,
    NodeTelemetry,
    NodeView,
    Observation,
    Outcome,
    Refused,
    Result,
    StartEpisode,
    Status,
    Submit,
    Work,
)
from runtime.models.manifest import StoredFile
from runtime.protocol.breakdown import breakdown_of
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Inspected, Instruction, Received, Send, Undelivered, UseController
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.identity import Identity
from runtime.protocol.node_machine import NodeMachine
from runtime.protocol.payload_sizes import PayloadSizes
from runtime.protocol.residency import Residency
from runtime.protocol.streams import StreamAnswer, Streams
from runtime.protocol.task import DeviceTask, Task
from runtime.radio import Radio, Transmission

ARRIVAL_SMOOTHING_S = 1.0
"""Time constant of the arrival rate estimate: rate <- rate * exp(-gap / T) + 1 / T at each arrival."""
CONTROLLER_STRIKES = 3
"""Missed answers in a row after which the controller counts as down and is no longer waited for (but still asked)."""
UNKNOWN_LINK = LinkView(rate_bytes_per_s=1e6, delay_s=0.0, outstanding_bytes=0.0, age_s=1e3)
UNKNOWN_NODE = NodeView(backlog_s=0.0, num_waiting=0, num_own=0, age_s=1e3, reachable=False)

Fallback = Callable[[Observation], Decision]


def device_only(models: HostedModels) -> Fallback:
    """The fallback that needs nothing: the full model of the first variant, all on the device."""

    def decide(observation: Observation) -> Decision:
        manifest = models.find(observation.model)
        variant = "fp32" if "fp32" in manifest.variants else min(manifest.variants)
        cuts = (manifest.num_stages, manifest.num_stages)
        return Decision(model=manifest.model, variant=variant, cuts=cuts, exit=len(manifest.exit_ends) - 1)

    return decide


class DeviceMachine(NodeMachine):
    """State of a device node: a NodeMachine with clients below and a controller beside it."""

    def __init__(
        self,
        identity: Identity,
        models: HostedModels,
        upstream: Connection | None,
        *,
        max_in_flight: int,
        decision_budget_s: float,
        compute_power: ComputePower,
        radio_power: RadioPower,
        fallback: Fallback | None = None,
        controller: bool = False,
        cache: CacheConfig | None = None,
        streams: Streams | None = None,
        difficulty: Mapping[str, DifficultyPredictor] = MappingProxyType({}),
        manifests: Mapping[str, StoredFile] | None = None,
        residency: Residency | None = None,
    ) -> None:
        """`difficulty`: model -> what tells how hard its inputs are; requests for others are decided without."""
        super().__init__(
            identity,
            models,
            upstream,
            Downstream(None),
            cache=cache,
            power=(compute_power, radio_power),
            manifests=manifests,
            residency=residency,
        )
        self._streams, self._difficulty = streams, difficulty
        self._max_in_flight, self._decision_budget_s = max_in_flight, decision_budget_s
        self._compute_power, self._radio = compute_power, Radio(radio_power)
        self._fallbacks = dict.fromkeys(models.names, device_only(models))
        if fallback is not None:
            self._fallbacks[models.names[0]] = fallback
        self._controller = controller
        self._shares = identity.tenancy.bounds(max_in_flight)
        self._payloads = PayloadSizes(models)
        self._strikes = 0
        self._asked: list[tuple[float, int]] = []
        self._arrivals_per_s, self._last_arrival_s = 0.0, -math.inf

    # ------------------------------------------------------------ messages

    def _on_message(self, event: Received) -> list[Instruction]:
        match event.source, event.message:
            case "down", Submit() as submit:
                return self._on_submit(event, submit)
            case "down", Work(request_id=request_id):
                self.counters["bad_input"] += 1
                return [self._failure_down(event.peer, request_id, "bad_input", "a device takes Submit, not Work", event.at_s)]
            case "controller", Decided(request_id=request_id, decision=decision, decided_by=decided_by):
                self._strikes = 0
                return self._on_decided(request_id, decision, decided_by, event.at_s)
            case "controller", Refused(request_id=request_id):
                self._strikes = 0
                self.counters["refused_decisions"] += 1
                return self._fall_back(request_id, event.at_s)
            case _:
                return super()._on_message(event)

    def _on_submit(self, event: Received, submit: Submit) -> list[Instruction]:
        if submit.request_id in self._tasks:
            self.counters["duplicates"] += 1
            known = self._tasks[submit.request_id]
            return [] if known.peer == event.peer else [self._refuse(event, submit, "bad_input", "this request id is in use")]
        try:
            self._check_submit(submit, event.parcel)
        except InvalidInput as exc:
            return [self._refuse(event, submit, "bad_input", str(exc))]
        if len(self._tasks) >= self._max_in_flight:
            self._count_arrival(event.at_s)
            return [self._refuse(event, submit, "overload", f"{self._max_in_flight} requests are in flight")]
        if not self._has_room(submit.tenant):
            self._count_arrival(event.at_s)
            self.counters["refused_tenant_full"] += 1
            return [self._refuse(event, submit, "overload", f"tenant {submit.tenant!r} has its share of the requests in flight")]
        task = DeviceTask(
            request_id=submit.request_id,
            model=submit.model,
            peer=event.peer,
            arrived_at_s=event.at_s,
            ready_at_s=event.at_s,
            expires_at_s=event.at_s + max(0.0, submit.deadline_s - submit.waited_s),
            parcel=event.parcel,
            waited_s=submit.waited_s,
            deadline_s=submit.deadline_s,
            given=submit.decision,
            with_output=submit.with_output,
            tenant=submit.tenant,
            stream=submit.stream,
            fresh=submit.fresh,
        )
        self._count_arrival(event.at_s)
        self._accept(task)
        return self._look(task) or self._have_decided(task, event.at_s)

    def _check_submit(self, submit: Submit, parcel: Parcel) -> None:
        manifest = self.models.find(submit.model)
        manifest.check_tensors(next(iter(manifest.variants)), 0, parcel.specs)
        if self.identity.tenancy.lane(submit.tenant) not in self._shares:
            raise InvalidInput(f"tenant {submit.tenant!r} is not known here; there is {sorted(self._shares)}")
        if parcel.codec != IDENTITY:
            raise InvalidInput(f"a device takes raw inputs (codec {IDENTITY}), got {parcel.codec}")
        if submit.decision is not None:
            manifest.check(submit.decision)

    # ------------------------------------------------------------ looking at inputs

    def _look(self, task: DeviceTask) -> list[Instruction]:
        """Have the input looked at: by the filter, for the cache, and for whoever is asked to decide.  Nothing if nobody wants it."""
        side = self._streams.config.side if self._streams is not None and task.stream and not task.fresh else 0
        difficulty = self._difficulty.get(task.model) if task.given is None else None
        if not side and difficulty is None and (task.fresh or not self._memory.in_use):
            return []
        return [self._memory.inspect(task, 0, self.identity.slowdown, thumbnail_side=side, difficulty=difficulty)]

    def _go_on(self, task: Task, event: Inspected) -> list[Instruction]:
        assert isinstance(task, DeviceTask)
        task.difficulty = event.difficulty
        if self._streams is not None and event.thumbnail is not None:
            task.verdict = self._streams.judge(task.tenant, task.model, task.stream, event.thumbnail, task.arrived_at_s)
            if task.verdict.skip:
                return self._skip(task, self._streams, event.at_s)
        return self._have_decided(task, event.at_s)

    def _skip(self, task: DeviceTask, streams: Streams, at_s: float) -> list[Instruction]:
        """Answer a frame as the last processed one if it has not changed; else it shows nothing of interest, no class."""
        assert task.verdict is not None
        unchanged = task.verdict.reason == "unchanged"
        task.reused, task.reused_at = "filter-unchanged" if unchanged else "filter-irrelevant", self.identity.tier
        answer = streams.answer(task.tenant, task.model, task.stream) if unchanged else None
        del self._tasks[task.request_id]
        self.counters["results"] += 1
        if answer is None:
            return [self._outcome(task, "ok", "", at_s)]
        task.exit = answer.exit
        return [self._outcome(task, "ok", "", at_s, prediction=answer.prediction, confidence=answer.confidence)]

    def _reuse_counters(self) -> dict[str, int]:
        return {**super()._reuse_counters(), **(self._streams.counters() if self._streams is not None else {})}

    def _has_room(self, tenant: str) -> bool:
        """Whether one more request of the tenant may be in flight: each has a share, as of the queue."""
        if len(self._shares) == 1:
            return True
        lane = self.identity.tenancy.lane(tenant)
        return sum(self.identity.tenancy.lane(task.tenant) == lane for task in self._tasks.values()) < self._shares[lane]

    # ------------------------------------------------------------ deciding

    def _have_decided(self, task: DeviceTask, at_s: float) -> list[Instruction]:
        """Carry out the client's decision, or ask for one."""
        if task.given is None:
            return self._ask(task, self.observe(task, at_s), at_s)
        task.asked_at_s = at_s
        return self._begin(task, task.given, "client", at_s)

    def _ask(self, task: DeviceTask, observation: Observation, at_s: float) -> list[Instruction]:
        task.observation, task.asked_at_s = observation, at_s
        if not self._controller:
            return self._fall_back(task.request_id, at_s)
        ask = self._to_controller(observation)
        if self._strikes >= CONTROLLER_STRIKES:
            self.counters["controller_down"] += 1
            return [ask, *self._fall_back(task.request_id, at_s)]
        heapq.heappush(self._asked, (at_s + self._decision_budget_s, task.request_id))
        return [ask]

    def _on_decided(self, request_id: int, decision: Decision, decided_by: DecidedBy, at_s: float) -> list[Instruction]:
        task = self._awaiting(request_id)
        if task is None:
            self.counters["late_decisions"] += 1
            return []
        try:
            self.models.find(task.model).check(decision)
        except InvalidInput:
            self.counters["bad_decisions"] += 1
            return self._fall_back(request_id, at_s)
        return self._begin(task, decision, decided_by, at_s)

    def _fall_back(self, request_id: int, at_s: float) -> list[Instruction]:
        task = self._awaiting(request_id)
        if task is None or task.observation is None:
            return []
        self.counters["fallbacks"] += 1
        return self._begin(task, self._fallbacks[task.model](task.observation), "fallback", at_s)

    def _on_undelivered(self, event: Undelivered) -> list[Instruction]:
        if event.target != "controller":
            return super()._on_undelivered(event)
        self._strikes += 1
        self.counters["undelivered_controller"] += 1
        return self._fall_back(event.request_id, event.at_s)

    def _awaiting(self, request_id: int) -> DeviceTask | None:
        """The request, if it still waits for a decision."""
        task = self._tasks.get(request_id)
        return task if isinstance(task, DeviceTask) and task.decision is None and task.observation is not None else None

    def _begin(self, task: DeviceTask, decision: Decision, decided_by: DecidedBy, at_s: float) -> list[Instruction]:
        task.decision, task.decided_by, task.observation = decision, decided_by, None
        task.decided_at_s = task.ready_at_s = at_s
        p, q = decision.cuts
        end = self.models.of(decision).end(decision)
        task.computes_on = (p > 0, q > p, end > q)
        task.uplink_bytes = self._payloads.expected_bytes(decision, p) if p < end else 0
        task.wan_bytes = self._payloads.expected_bytes(decision, q) if q < end else 0
        tau = self._training.set_tau(decision.tau, at_s) if decision.tau is not None else []
        return [*tau, *self._recall_or_advance(task, decision, 0, at_s)]

    # ------------------------------------------------------------ observing

    def observe(self, task: DeviceTask, at_s: float) -> Observation:
        """What a policy may know when it decides for this request."""
        uplink_bytes, wan_bytes = self._committed_bytes()
        links: tuple[LinkView, ...] = self._up.link_views(at_s, uplink_bytes) if self._up is not None else ()
        wan = links[1] if len(links) > 1 else UNKNOWN_LINK
        return Observation(
            request_id=task.request_id,
            model=task.model,
            at_s=max(0.0, at_s - self._episode.epoch_s),
            deadline_s=max(0.0, task.expires_at_s - at_s),
            num_in_flight=len(self._tasks) - (task.request_id in self._tasks),
            arrival_rate_per_s=self._arrivals_per_s,
            nodes=self._node_views(at_s),
            links=(
                links[0] if links else UNKNOWN_LINK,
                LinkView(rate_bytes_per_s=wan.rate_bytes_per_s, delay_s=wan.delay_s, outstanding_bytes=wan_bytes, age_s=wan.age_s),
            ),
            difficulty=task.difficulty,
            job=self._training.view(at_s),
        )

    def _committed_bytes(self) -> tuple[float, float]:
        """Bytes that accepted requests will still send over the uplink, and those unfinished over the wan."""
        uplink = wan = 0
        for task in self._tasks.values():
            if isinstance(task, DeviceTask):
                uplink += task.uplink_bytes if not task.handed_at_s else 0
                wan += task.wan_bytes
        return uplink + (self._up.outstanding_bytes if self._up is not None else 0), wan

    def _node_views(self, at_s: float) -> tuple[NodeView, NodeView, NodeView]:
        computing = [task.computes_on for task in self._tasks.values() if isinstance(task, DeviceTask)]
        own = [sum(tiers) for tiers in zip(*computing, strict=True)] or [0, 0, 0]
        known: dict[str, NodeTelemetry] = {node.tier: node for node in self.telemetry(at_s)}
        device, edge, cloud = (_node_view(known[tier], own[index]) if tier in known else UNKNOWN_NODE for index, tier in enumerate(TIERS))
        return device, edge, cloud

    def _count_arrival(self, at_s: float) -> None:
        gap_s = at_s - self._last_arrival_s
        self._arrivals_per_s = self._arrivals_per_s * math.exp(-gap_s / ARRIVAL_SMOOTHING_S) + 1 / ARRIVAL_SMOOTHING_S
        self._last_arrival_s = at_s

    # ------------------------------------------------------------ the radio

    def _pass_up(self, task: Task, decision: Decision, stage: int, parcel: Parcel, at_s: float) -> list[Instruction]:
        out = super()._pass_up(task, decision, stage, parcel, at_s)
        if isinstance(task, DeviceTask) and task.handed_at_s:
            sent = Transmission(at_s=task.handed_at_s, num_bytes=task.sent_bytes, duration_s=task.sending_s)
            task.radio_joules += self._radio.transmit(sent)
        return out

    def _on_result(self, event: Received, result: Result) -> list[Instruction]:
        task = self._tasks.get(result.request_id)
        if isinstance(task, DeviceTask):
            received = Transmission(at_s=event.at_s, num_bytes=event.num_bytes, direction="down")
            task.radio_joules += self._radio.transmit(received)
        return super()._on_result(event, result)

    # ------------------------------------------------------------ ending

    def _finish(self, task: Task, logits: Parcel, exit: int, at_s: float) -> list[Instruction]:
        assert isinstance(task, DeviceTask)
        output = self._output(task, logits, exit)
        if output is None:
            return self._fail(task, "internal", "the answer is not finite, or not of the size that the exit puts out", at_s)
        task.exit = exit
        del self._tasks[task.request_id]
        self.counters["results"] += 1
        self._memory.keep(task, logits, exit, at_s)
        wanted = (output,) if task.with_output else ()
        if not self.models.find(task.model).classes:
            return [self._outcome(task, "ok", "", at_s, output=wanted)]
        best, confidence = self._meaning(output)
        answer = StreamAnswer(prediction=best, confidence=confidence, exit=exit)
        if self._streams is not None and task.verdict is not None and task.reused != "cache-similar":  # errors must not breed
            self._streams.processed(task.tenant, task.model, task.stream, task.verdict, answer)
        return [self._outcome(task, "ok", "", at_s, prediction=best, confidence=confidence, output=wanted)]

    def _output(self, task: DeviceTask, logits: Parcel, exit: int) -> np.ndarray | None:
        """What the exit puts out, finite: logits, or values of a picture; None for anything else."""
        manifest = self.models.find(task.model)
        if task.decision is None or not 0 <= exit < len(manifest.exit_ends):
            return None
        size = math.prod(manifest.variants[task.decision.variant].outputs[exit].shape)
        try:
            tensors = unpack(logits).tensors
        except MalformedMessage:
            return None
        if len(tensors) != 1 or tensors[0].size != size or not np.isfinite(tensors[0]).all():
            return None
        return tensors[0]

    def _meaning(self, logits: np.ndarray) -> tuple[int, float]:
        """The most likely class and its softmax probability."""
        scores = logits.reshape(-1).astype(np.float64)
        shares = np.exp(scores - scores.max())
        best = int(scores.argmax())
        return best, float(shares[best] / shares.sum())

    def _fail(self, task: Task, status: Status, message: str, at_s: float) -> list[Instruction]:
        assert isinstance(task, DeviceTask)
        del self._tasks[task.request_id]
        self.counters[f"failed_{status}"] += 1
        return [self._outcome(task, status, message, at_s)]

    def _outcome(
        self,
        task: DeviceTask,
        status: Status,
        message: str,
        at_s: float,
        prediction: int | None = None,
        confidence: float | None = None,
        output: tuple[np.ndarray, ...] = (),
    ) -> Send:
        spans = task.upstream_spans
        if task.decision is not None:
            self._payloads.saw(task.decision, task.sent_bytes, spans[0].sent_bytes if spans else 0)
        memory = self._up.memory_bytes() if self._up is not None else {}
        outcome = Outcome(
            request_id=task.request_id,
            status=status,
            message=message,
            decision=task.decision,
            decided_by=task.decided_by,
            latency_s=task.waited_s + at_s - task.arrived_at_s,
            deadline_s=task.deadline_s,
            breakdown=breakdown_of(task, at_s),
            exit=task.exit,
            prediction=prediction,
            confidence=confidence,
            energy_joules=self._energy_joules(task, at_s),
            link_bytes=(task.sent_bytes, spans[0].sent_bytes if spans else 0),
            down_bytes=(task.returned_bytes, spans[0].returned_bytes if spans else 0),
            leakage=1.0 if task.handed_at_s else 0.0,  # whoever holds the profile knows better (envs/live.py)
            memory_bytes=(self._self_report.memory_bytes, memory.get("edge", 0), memory.get("cloud", 0)),
            reused=task.reused,
            reused_at=task.reused_at,
            tenant=task.tenant,
            batch=(task.batch, spans[0].batch if spans else 0, spans[1].batch if len(spans) > 1 else 0),
            handed_over=bool(spans) and spans[0].handed_over,
            handover_bytes=spans[0].handover_bytes if spans else (0, 0),
        )
        return self._to_client(task.peer, outcome, output)

    def _energy_joules(self, task: DeviceTask, at_s: float) -> float:
        """What was spent on it by then: also of a run that it did not live to see the end of."""
        until_s = task.computed_at_s or at_s
        busy_s = (until_s - task.started_at_s) / task.rows if task.started_at_s else 0.0  # a batch's rows share what it takes
        return self._compute_power.above_idle_joules(busy_s + task.inspect_s) + task.radio_joules

    def _refuse(self, event: Received, submit: Submit, status: Status, message: str) -> Send:
        """Answer a request that was never accepted."""
        self.counters[f"failed_{status}"] += 1
        outcome = Outcome(
            request_id=submit.request_id,
            status=status,
            message=message,
            latency_s=submit.waited_s,
            deadline_s=submit.deadline_s,
            breakdown=Breakdown(client_s=submit.waited_s),
            tenant=submit.tenant,
        )
        return self._to_client(event.peer, outcome)

    # ------------------------------------------------------------ speaking

    def _to_client(self, peer: bytes, outcome: Outcome, output: tuple[np.ndarray, ...] = ()) -> Send:
        return Send(target="down", peer=peer, frames=to_frames(outcome, output))

    def _to_controller(self, observation: Observation) -> Send:
        return Send(target="controller", frames=to_frames(observation), request_id=observation.request_id)

    # ------------------------------------------------------------ time and episodes

    @property
    def next_tick_at_s(self) -> float:
        """Also when a decision is overdue."""
        due = self._asked[0][0] if self._asked else math.inf
        return min(due, super().next_tick_at_s)

    def _on_tick(self, at_s: float) -> list[Instruction]:
        out: list[Instruction] = []
        while self._asked and self._asked[0][0] <= at_s:
            _, request_id = heapq.heappop(self._asked)
            task = self._awaiting(request_id)
            if task is not None and task.asked_at_s + self._decision_budget_s <= at_s:  # else another of its id was asked for
                self._strikes += 1
                self.counters["decision_timeouts"] += 1
                out.extend(self._fall_back(request_id, at_s))
        return [*out, *super()._on_tick(at_s)]

    def _on_start_episode(self, peer: bytes, start: StartEpisode, at_s: float) -> list[Instruction]:
        out: list[Instruction] = [UseController(address=start.controller)]
        for task in list(self._tasks.values()):
            out += self._fail(task, "peer_lost", "dropped: a new episode begins", at_s)
        self._asked.clear()
        self._payloads = PayloadSizes(self.models)
        self._radio.restart()
        self._strikes = 0
        self._arrivals_per_s, self._last_arrival_s = 0.0, -math.inf
        self._controller = bool(start.controller)
        if self._streams is not None:
            self._streams.forget()
        return [*out, *super()._on_start_episode(peer, start, at_s)]


def _node_view(node: NodeTelemetry, num_own: int) -> NodeView:
    return NodeView(backlog_s=node.backlog_s, num_waiting=node.num_waiting, num_own=num_own, age_s=node.age_s, loaded=node.loaded)
