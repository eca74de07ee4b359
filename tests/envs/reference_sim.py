"""A second simulator of the same rules, written to be obviously right: one episode, an event heap, plain Python.

It shares with the vectorised one what the live runtime shares too (workload, link emulation, cost function), and nothing else.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from envs.inputs import perturbed_picture
from envs.reward import cost
from envs.scenario import Scenario
from envs.simulation.reuse import cache_capacity
from envs.simulation.setup import link_in_force
from envs.training_job import TrainingJob
from envs.workload import background_decision, draw_background, draw_requests
from runtime.codecs import is_lossless
from runtime.energy import request_energy_joules
from runtime.inference.filter import StreamFilter
from runtime.links import EmulatedLink
from runtime.messages import Breakdown, Decision, LinkView, NodeView, Observation, Outcome
from runtime.models.examples import Examples
from runtime.profile import Profile, read_bits
from runtime.protocol.connection import PROBE_AFTER_S
from tests.envs.reference_job import ReferenceJob

PHASE_SALT = 13


@dataclass
class Job:
    """Work in a CPU's queue."""

    work_s: float
    expires_s: float
    done: Callable[[float, float], None]
    """Called with (began, ended) when it was worked."""


class Cpu:
    """One worker, first come first served; expired jobs are dropped when their turn comes."""

    def __init__(self, world: World) -> None:
        self._world, self._waiting, self._running = world, deque[Job](), (-np.inf, -np.inf)
        self.on_busy: Callable[[], None] = lambda: None
        self.on_idle: Callable[[], None] = lambda: None

    def offer(self, job: Job) -> None:
        self._waiting.append(job)
        self._next()

    def _next(self) -> None:
        now_s = self._world.now_s
        while self._running[1] <= now_s and self._waiting:
            job = self._waiting.popleft()
            if now_s >= job.expires_s:
                continue
            self._running = (now_s, now_s + job.work_s)
            self.on_busy()
            self._world.at(now_s + job.work_s, lambda job=job, began=now_s: self._done(job, began))

    def _done(self, job: Job, began_s: float) -> None:
        job.done(began_s, self._world.now_s)
        self._next()
        if self._running[1] <= self._world.now_s:
            self.on_idle()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def backlog_s(self) -> float:
        return sum(job.work_s for job in self._waiting) + max(0.0, self._running[1] - self._world.now_s)


class Link:
    """One direction upwards, with what its sender knows of it."""

    def __init__(self, world: World, name: str, seed: int) -> None:
        config = link_in_force(getattr(world.scenario.topology, name), getattr(world.profile, name))
        self._world, self.delay_s = world, config.delay_s
        self._line = EmulatedLink(config.rate, config.delay_s, config.jitter_s, name, "up")
        self._line.restart(seed, 0.0)
        self.down = EmulatedLink(config.down_rate, config.delay_s, config.jitter_s, name, "down")
        self.down.restart(seed, 0.0)
        self.rate_bytes_per_s, self.measured_at_s, self.on_the_way = self._rate_at(0.0), 0.0, set[int]()

    def _rate_at(self, at_s: float) -> float:
        trace = self._line.trace
        return (trace.bytes_until(at_s + 1e-6) - trace.bytes_until(at_s)) / 1e-6

    def send(self, request_id: int, num_bytes: float, landed: Callable[[], None]) -> float:
        transfer = self._line.transfer(request_id, int(num_bytes), self._world.now_s)
        self.on_the_way.add(request_id)
        self._world.at(transfer.arrives_at_s, landed)
        self._world.at(transfer.arrives_at_s + self.delay_s, lambda: self._acknowledged(request_id, num_bytes / transfer.sending_s))
        return transfer.sending_s

    def answer_at_s(self, request_id: int, num_bytes: float, at_s: float) -> float:
        """When a result lands below; results do not wait for one another."""
        self.down._free_at_s = -np.inf
        return self.down.transfer(request_id, int(num_bytes), at_s).arrives_at_s

    def _acknowledged(self, request_id: int, rate: float) -> None:
        self.on_the_way.discard(request_id)
        self.rate_bytes_per_s, self.measured_at_s = rate, self._world.now_s

    def probe_if_old(self) -> None:
        if self._world.now_s - self.measured_at_s > PROBE_AFTER_S and not self.on_the_way:
            rate, back_s = self._rate_at(self._world.now_s), self._world.now_s + 2 * self.delay_s
            self._world.at(back_s, lambda: self._acknowledged(-1, rate))


@dataclass
class Request:
    """One request's way."""

    decision: Decision
    arrival_s: float
    expires_s: float
    exit: int
    end: int
    """Stages that it runs."""
    needs: dict[str, float]
    refused: bool = False
    finish_s: float = np.inf
    device_s: float = 0.0
    device_started: bool = False
    sending_s: float = 0.0
    handed: bool = False
    acknowledged: bool = False
    tiers: set[str] = field(default_factory=set)
    reused: bool = False
    reused_at: str | None = None
    skipped: bool = False
    right: bool = False
    processed: Callable[[], None] = lambda: None
    """Tells the filter its answer."""

    @property
    def end_s(self) -> float:
        return self.finish_s if self.refused else min(self.finish_s, self.expires_s)


class Cache:
    """Answers by question and picture, the least recently used first."""

    def __init__(self, capacity: int, ttl_s: float) -> None:
        self._capacity, self._ttl_s = capacity, ttl_s
        self._answers = OrderedDict[Hashable, tuple[float, bool]]()

    def _expire(self, now_s: float) -> None:
        for key in [key for key, (stored_s, _) in self._answers.items() if stored_s + self._ttl_s <= now_s]:
            del self._answers[key]

    def look_up(self, key: Hashable, now_s: float) -> bool | None:
        """Whether the known answer is right; None when none is known."""
        self._expire(now_s)
        if key not in self._answers:
            return None
        self._answers.move_to_end(key)
        return self._answers[key][1]

    def store(self, key: Hashable, right: bool, now_s: float) -> None:
        self._expire(now_s)
        self._answers.pop(key, None)
        self._answers[key] = (now_s, right)
        while len(self._answers) > self._capacity:
            self._answers.popitem(last=False)


class World:
    """One episode."""

    def __init__(
        self,
        scenario: Scenario,
        profile: Profile,
        seed: int,
        split: str = "validation",
        examples: Examples | None = None,
        training: TrainingJob | None = None,
    ) -> None:
        self.scenario, self.profile, self.now_s = scenario, profile, -1.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        table = {
            (variant, exit): read_bits(bits) for variant, info in profile.variants.items() for exit, bits in enumerate(info.correct[split])
        }
        self._correct, self._split = table, split
        self._arrivals = draw_requests(scenario.workload, seed, len(next(iter(table.values()))))
        self.requests: list[Request] = []
        config = scenario.topology.device.cache
        self._waiting_to_store: dict[int, Hashable] = {}
        self._cache = Cache(cache_capacity(config, profile), config.ttl_s) if config is not None else None
        edge = scenario.topology.edge.cache
        self._edge_cache = Cache(cache_capacity(edge, profile), edge.ttl_s) if edge is not None else None
        self._seed, self._examples = seed, examples
        watching = scenario.topology.device.filter if scenario.workload.inputs.stream else None
        self._filter: StreamFilter[Request] | None = StreamFilter(watching) if watching is not None else None
        self._lookup_s = (profile.lookup_s if config is not None else 0.0) + (profile.thumbnail_s if watching is not None else 0.0)
        self._told = profile.difficulty if scenario.techniques.difficulty else None
        self._lookup_s += self._told.look_s if self._told is not None else 0.0
        self.observations: list[Observation] = []
        self.cpus = {tier: Cpu(self) for tier in ("device", "edge", "cloud")}
        self.uplink, self.wan = Link(self, "uplink", seed), Link(self, "wan", seed)
        self._rate = self._last_s = 0.0
        self._edge_report = self._cloud_report = (-1.0, 0.0, 0)
        self._cloud_known_to_edge = (-1.0, 0.0, 0)
        self._wan_known = (self.wan.rate_bytes_per_s, 0.0)
        self._start_pings(seed)
        job = background_decision(scenario.background, profile.model, profile.exit_ends)
        info = profile.variants[job.variant]
        work_s = sum(info.stage_s["edge"][: profile.end(job)]) + info.head_s["edge"][job.exit]
        last_s = float(self._arrivals.arrival_s[-1])
        self.job = ReferenceJob(self, training, last_s) if training is not None else None
        if self.job is not None:
            self.cpus["device"].on_busy, self.cpus["device"].on_idle = self.job.pause, self.job.resume
        for at_s in draw_background(scenario.background, seed, float(self._arrivals.arrival_s[-1])).tolist():
            self.at(at_s, lambda: self.cpus["edge"].offer(Job(work_s, np.inf, lambda began, ended: None)))

    def at(self, at_s: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, what))

    def device_is_idle(self) -> bool:
        device = self.cpus["device"]
        return device._running[1] <= self.now_s and not device.num_waiting

    def play(self, decisions: Sequence[Decision]) -> list[Outcome]:
        """Decide request k by decisions[k]; all outcomes, by request."""
        for index, at_s in enumerate(self._arrivals.arrival_s.tolist()):
            self.at(at_s, lambda index=index: self._arrive(index, decisions[index]))
        last_s = float(self._arrivals.arrival_s[-1]) + 1000.0
        while self._events and self._events[0][0] < last_s:
            self.now_s, _, what = heapq.heappop(self._events)
            what()
        return [self._outcome(index, request) for index, request in enumerate(self.requests)]

    def costs(self, outcomes: Sequence[Outcome]) -> list[float]:
        return [cost(self.scenario.objective, outcome) for outcome in outcomes]

    # ------------------------------------------------------------ a request's way

    def _arrive(self, index: int, decision: Decision) -> None:
        workload, topology = self.scenario.workload, self.scenario.topology
        self._rate = self._rate * np.exp(-(self.now_s - self._last_s)) + 1.0
        self._last_s = self.now_s
        self.observations.append(self._observe(index))
        exit = self._exit_of(decision, int(self._arrivals.example[index]))
        end = self.profile.exit_ends[exit]
        request = Request(decision, self.now_s, self.now_s + workload.deadline_s, exit, end, self._needs(decision, exit))
        request.refused = len(self._unfinished()) >= topology.max_in_flight
        self.requests.append(request)
        if request.refused:
            request.finish_s = self.now_s + self.profile.overheads.base_s
            return
        request.right = self._right(request, int(self._arrivals.example[index]))
        if self._filter is not None and self._skip(index, request, self._filter):
            return
        if self._cache is not None and self._reuse(index, request):
            return
        ready_s = self.now_s + self.profile.overheads.base_s / 2 + self._lookup_s
        if request.needs["device"] > 0:
            job = Job(request.needs["device"], request.expires_s, lambda began, ended: self._device_done(index, began, ended))
            self.at(ready_s, lambda: self.cpus["device"].offer(job))
        else:
            self._leave_device(index, ready_s)

    def _skip(self, index: int, request: Request, watching: StreamFilter[Request]) -> bool:
        """Answer as the last processed frame if the real filter says so; else tell it the answer when it comes."""
        assert self._examples is not None
        picture = self._examples.images[self._arrivals.example[index]]
        if self._arrivals.perturbed[index]:
            picture = perturbed_picture(self.scenario.workload.inputs, self._seed, index, picture)
        verdict = watching.judge(picture, self.now_s)
        if not verdict.skip:
            request.processed = lambda: watching.processed(verdict, request)
            return False
        known = watching.answer
        assert known is not None
        labels, examples = self._examples.labels, self._arrivals.example
        same = labels[examples[index]] == labels[examples[self.requests.index(known)]]
        request.skipped, request.right, request.exit = True, bool(known.right and same), known.exit
        self._answer_now(request)
        return True

    def _answer_now(self, request: Request) -> None:
        request.reused, request.reused_at, request.needs = True, "device", dict.fromkeys(request.needs, 0.0)
        request.finish_s = self.now_s + self.profile.overheads.base_s + self._lookup_s

    def _reuse(self, index: int, request: Request) -> bool:
        """Answer from the cache; else see that the answer comes there."""
        assert self._cache is not None
        decision, example = request.decision, int(self._arrivals.example[index])
        lossy_cuts = (
            () if is_lossless(decision.codec) else tuple(sorted({cut for cut in decision.cuts if cut < self.profile.end(decision)}))
        )
        loss = (decision.codec, lossy_cuts) if lossy_cuts else None
        picture = -1 - index if self._arrivals.perturbed[index] else example
        key = (decision.variant, decision.exit, decision.early_exit, loss, picture)
        known = self._cache.look_up(key, self.now_s)
        if known is None:
            self._waiting_to_store[index] = key
            return False
        request.right = known
        self._answer_now(request)
        self._store(index)
        return True

    def _store(self, index: int) -> None:
        request = self.requests[index]
        if request.finish_s > request.expires_s:
            return
        if self._cache is not None and not request.reused:
            self.at(request.finish_s, lambda: self._cache.store(self._waiting_to_store[index], request.right, self.now_s))
        if self._filter is not None:
            self.at(request.finish_s, request.processed)

    def _device_done(self, index: int, began_s: float, ended_s: float) -> None:
        request = self.requests[index]
        request.device_started, request.device_s = True, min(ended_s, request.expires_s) - began_s
        if request.decision.cuts[0] >= request.end:
            request.finish_s = ended_s + self.profile.overheads.base_s / 2
            self._store(index)
        else:
            self._leave_device(index, ended_s)

    def _leave_device(self, index: int, at_s: float) -> None:
        self.at(at_s + self.profile.overheads.uplink_s / 2, lambda: self._hand_to_uplink(index))

    def _hand_to_uplink(self, index: int) -> None:
        request = self.requests[index]
        if self.now_s < request.expires_s:
            request.handed = True
            expires_in_s = request.expires_s - self.now_s
            request.sending_s = self.uplink.send(index, request.needs["uplink"], lambda: self._reach_edge(index, expires_in_s))
            request.acknowledged = False

    def _reach_edge(self, index: int, expires_in_s: float) -> None:
        request, expires_s = self.requests[index], self.now_s + expires_in_s
        at_s = self.now_s + self.uplink.delay_s
        self.at(at_s, lambda: setattr(request, "acknowledged", True))
        if self._edge_cache is None:
            self._enter_edge(index, expires_s)
        else:
            look_s = self.profile.edge_lookup_s + self.profile.edge_lookup_s_per_byte * request.needs["uplink"]
            self.at(self.now_s + look_s, lambda: self._look_up_at_edge(index, expires_s))

    def _look_up_at_edge(self, index: int, expires_s: float) -> None:
        assert self._edge_cache is not None
        request = self.requests[index]
        if self.now_s >= expires_s:
            return
        known = self._edge_cache.look_up(self._edge_key(index), self.now_s)
        if known is None:
            self._enter_edge(index, expires_s)
        else:
            request.reused, request.reused_at, request.right = True, "edge", known
            self._return(index, self.now_s)

    def _edge_key(self, index: int) -> Hashable:
        """By what its frames are made of, and what is asked of them."""
        decision, picture = self.requests[index].decision, int(self._arrivals.example[index])
        if self._arrivals.perturbed[index]:
            picture = -1 - index
        p, q = decision.cuts
        end = self.profile.end(decision)
        loses_again = not is_lossless(decision.codec) and p < q < end
        return picture, p, decision.codec, decision.variant, decision.exit, decision.early_exit, q if loses_again else None

    def _enter_edge(self, index: int, expires_s: float) -> None:
        request = self.requests[index]
        if request.needs["edge"] > 0:
            job = Job(request.needs["edge"], expires_s, lambda began, ended: self._edge_done(index, expires_s))
            self.cpus["edge"].offer(job)
        else:
            self._edge_done(index, expires_s, relayed=True)

    def _edge_done(self, index: int, expires_s: float, relayed: bool = False) -> None:
        request = self.requests[index]
        if not relayed:
            request.tiers.add("edge")
        if request.decision.cuts[1] < request.end:
            self.at(self.now_s + self.profile.overheads.wan_s / 2, lambda: self._hand_to_wan(index, expires_s))
        elif self.now_s < expires_s:
            self._answer(index, self.now_s, expires_s)

    def _hand_to_wan(self, index: int, expires_s: float) -> None:
        if self.now_s < expires_s:
            expires_in_s = expires_s - self.now_s
            self.wan.send(index, self.requests[index].needs["wan"], lambda: self._reach_cloud(index, expires_in_s, expires_s))

    def _reach_cloud(self, index: int, expires_in_s: float, edge_expires_s: float) -> None:
        expires_s = self.now_s + expires_in_s
        job = Job(self.requests[index].needs["cloud"], expires_s, lambda began, ended: self._cloud_done(index, expires_s, edge_expires_s))
        self.cpus["cloud"].offer(job)

    def _cloud_done(self, index: int, expires_s: float, edge_expires_s: float) -> None:
        self.requests[index].tiers.add("cloud")
        if self.now_s < expires_s:
            at_s = self.wan.answer_at_s(index, self.profile.result_bytes, self.now_s)
            self._answer(index, at_s + self.profile.overheads.wan_s / 2, edge_expires_s)

    def _answer(self, index: int, at_edge_s: float, edge_expires_s: float) -> None:
        """The edge keeps a computed answer if it has not given the request up, and sends it down."""
        if self._edge_cache is not None and at_edge_s < edge_expires_s:
            key, right = self._edge_key(index), self.requests[index].right
            self.at(at_edge_s, lambda: self._edge_cache.store(key, right, self.now_s))
        self._return(index, at_edge_s)

    def _return(self, index: int, at_edge_s: float) -> None:
        overheads = self.profile.overheads
        at_device_s = self.uplink.answer_at_s(index, self.profile.result_bytes, at_edge_s)
        self.requests[index].finish_s = at_device_s + overheads.uplink_s / 2 + overheads.base_s / 2
        self._store(index)

    def _exit_of(self, decision: Decision, example: int) -> int:
        if not decision.early_exit:
            return decision.exit
        return min(int(self.profile.variants[decision.variant].exit_taken[self._split][example]), decision.exit)

    def _needs(self, decision: Decision, exit: int) -> dict[str, float]:
        """Stage by stage: run it where it lies, then the heads behind it; at a cut, encode and decode."""
        info, (p, q) = self.profile.variants[decision.variant], decision.cuts
        codec = info.codecs.get(decision.codec)
        needs = dict.fromkeys(("device", "edge", "cloud", "uplink", "wan"), 0.0)
        place = "device"
        for stage in range(self.profile.exit_ends[exit]):
            before = place
            place = "device" if stage < p else "edge" if stage < q else "cloud"
            if place != before and before == "device":
                needs["uplink"] = float(codec.cut_bytes[p] if codec else info.cut_bytes[p])
                needs["device"] += codec.encode_s["device"][p] if codec else 0.0
                needs["edge"] += codec.decode_s["edge"][p] if codec and place == "edge" else 0.0
            if place != before and place == "cloud":
                needs["wan"] = float(codec.cut_bytes[q] if codec else info.cut_bytes[q])
                needs["edge"] += codec.encode_s["edge"][q] if codec and before == "edge" else 0.0
                needs["cloud"] += codec.decode_s["cloud"][q] if codec else 0.0
            needs[place] += info.stage_s[place][stage]
            for head, end in enumerate(self.profile.exit_ends):
                if end == stage + 1 and (head == exit or (decision.early_exit and head < exit)):
                    needs[place] += info.head_s[place][head]
        return needs

    def _right(self, request: Request, example: int) -> bool:
        info = self.profile.variants[request.decision.variant]
        right = bool(self._correct[request.decision.variant, request.exit][example])
        codec = info.codecs.get(request.decision.codec)
        if codec is not None and codec.correct:
            for cut in request.decision.cuts:
                right = right and (cut >= request.end or codec.correct[self._split][cut][request.exit][example] == "1")
        return right

    # ------------------------------------------------------------ the end

    def _outcome(self, index: int, request: Request) -> Outcome:
        """As the live device fills it in."""
        topology, decision, profile = self.scenario.topology, request.decision, self.profile
        answered = not request.refused and request.finish_s <= request.expires_s
        used = [request.device_started, *(answered and tier in request.tiers for tier in ("edge", "cloud"))]
        busy_s = request.device_s + self._lookup_s * (not request.refused)
        sent = request.needs["uplink"] * request.handed
        received = profile.result_bytes * (answered and request.handed)
        energy = request_energy_joules(topology.compute_power, topology.radio_power, busy_s, sent, request.sending_s, received)
        return Outcome(
            request_id=index,
            status="ok" if answered else "overload" if request.refused else "deadline",
            decision=None if request.skipped else decision,
            exit=request.exit if answered else None,
            latency_s=request.end_s - request.arrival_s,
            deadline_s=self.scenario.workload.deadline_s,
            breakdown=Breakdown(compute_s=(float(used[0]), float(used[1]), float(used[2]))),
            correct=request.right if answered else None,
            reused="no" if not (answered and request.reused) else "filter-unchanged" if request.skipped else "cache-exact",
            reused_at=request.reused_at if answered else None,
            energy_joules=energy,
            link_bytes=(int(request.needs["uplink"] * request.handed), 0),
            leakage=profile.variants[decision.variant].leakage[decision.cuts[0]] if request.handed else 0.0,
            memory_bytes=(profile.memory_bytes["device"], profile.memory_bytes["edge"], profile.memory_bytes["cloud"]),
        )

    # ------------------------------------------------------------ telemetry

    def _start_pings(self, seed: int) -> None:
        period_s = self.scenario.topology.telemetry_period_s
        phases = np.random.default_rng([seed & 0xFFFFFFFF, PHASE_SALT]).random(2) * period_s
        until_s = float(self._arrivals.arrival_s[-1])
        for phase_s, ping in ((phases[0], self._ping_edge), (phases[1], self._ping_cloud)):
            for number in range(-int(1.0 / period_s) - 1, int(until_s / period_s) + 1):
                self.at(phase_s + number * period_s, ping)

    def _ping_edge(self) -> None:
        if self.now_s > 0:
            self.uplink.probe_if_old()

        def sample() -> None:
            edge = (self.now_s, self.cpus["edge"].backlog_s, self.cpus["edge"].num_waiting)
            cloud, wan = self._cloud_known_to_edge, (self.wan.rate_bytes_per_s, self.wan.measured_at_s)
            self.at(self.now_s + self.uplink.delay_s, lambda: back(edge, cloud, wan))

        def back(edge: tuple[float, float, int], cloud: tuple[float, float, int], wan: tuple[float, float]) -> None:
            self._edge_report, self._cloud_report, self._wan_known = edge, cloud, wan

        self.at(self.now_s + self.uplink.delay_s, sample)

    def _ping_cloud(self) -> None:
        if self.now_s > 0:
            self.wan.probe_if_old()

        def sample() -> None:
            cloud = (self.now_s, self.cpus["cloud"].backlog_s, self.cpus["cloud"].num_waiting)
            self.at(self.now_s + self.wan.delay_s, lambda: setattr(self, "_cloud_known_to_edge", cloud))

        self.at(self.now_s + self.wan.delay_s, sample)

    def _unfinished(self) -> list[Request]:
        return [request for request in self.requests if request.end_s > self.now_s and not request.refused]

    def _difficulty(self, example: int) -> tuple[float, ...]:
        if self._told is None:
            return ()
        return tuple(int(digits[3 * example : 3 * example + 3], 16) / 4095 for digits in self._told.predicted[self._split])

    def _observe(self, index: int) -> Observation:
        unfinished = self._unfinished()
        own = [sum(request.decision.cuts[0] > 0 and request.reused_at != "device" for request in unfinished)]
        own += [sum(request.needs[tier] > 0 for request in unfinished) for tier in ("edge", "cloud")]
        waiting_bytes = sum(request.needs["uplink"] for request in unfinished if not request.handed)
        waiting_bytes += sum(request.needs["uplink"] for request in self.requests if request.handed and not request.acknowledged)
        waiting_bytes += self.job.waiting_bytes if self.job is not None else 0.0
        edge, cloud, device = self._edge_report, self._cloud_report, self.cpus["device"]
        return Observation(
            request_id=index,
            model=self.profile.model,
            at_s=self.now_s,
            deadline_s=self.scenario.workload.deadline_s,
            num_in_flight=len(unfinished),
            arrival_rate_per_s=self._rate,
            nodes=(
                NodeView(backlog_s=device.backlog_s, num_waiting=device.num_waiting, num_own=own[0], age_s=0.0),
                NodeView(backlog_s=edge[1], num_waiting=edge[2], num_own=own[1], age_s=self.now_s - edge[0]),
                NodeView(backlog_s=cloud[1], num_waiting=cloud[2], num_own=own[2], age_s=self.now_s - cloud[0]),
            ),
            links=(
                LinkView(
                    rate_bytes_per_s=self.uplink.rate_bytes_per_s,
                    delay_s=self.uplink.delay_s,
                    outstanding_bytes=waiting_bytes,
                    age_s=self.now_s - self.uplink.measured_at_s,
                ),
                LinkView(
                    rate_bytes_per_s=self._wan_known[0],
                    delay_s=self.wan.delay_s,
                    outstanding_bytes=sum(request.needs["wan"] for request in unfinished),
                    age_s=self.now_s - self._wan_known[1],
                ),
            ),
            difficulty=self._difficulty(int(self._arrivals.example[index])),
        )
