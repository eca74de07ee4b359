"""One simulated episode: nodes that have known each other for a while, a client with its requests, and the neighbours' jobs.

What the runtime takes beside compute and links (profile.Overheads): `base_s` from the device's question to the controller's
answer, or where none is asked on the way back to the client; `uplink_s` and `wan_s` half on the way up and half back.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec
import numpy as np

from envs.inputs import InputsConfig
from envs.simulation.events.cargo import Cargo, Ride
from envs.simulation.events.clock import Clock
from envs.simulation.events.looks import Pictures
from envs.simulation.events.nodes import EDGE, Nodes
from envs.simulation.events.scene import Scene
from envs.workload import BACKGROUND_ID, draw_background, draw_requests
from runtime.messages import Decided, Decision, Message, Observation, Outcome, StartEpisode, Submit, Work
from runtime.protocol.task import DeviceTask

PREPARE_S = 0.5
"""From the order to start an episode until its time zero, as live (envs/live.py)."""
BACKGROUND_BUDGET_S = 10.0
BACKGROUND_PEER = b"background"
_PHASE_SALT = 13


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has come to the device: what is known, and whether a decision is waited for."""

    observation: Observation
    refused: bool = False
    """The device did not accept it."""
    skipped: bool = False
    """The device's filter answers it."""


class Episode:
    """The episode of one seed, from empty queues."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene, self._clock = scene, Clock()
        inputs: InputsConfig = scene.scenario.workload.inputs
        self.nodes = Nodes(scene, self._clock, Pictures(inputs, scene.examples, seed), self._hear)
        self.requests = draw_requests(scene.scenario.workload, seed, scene.num_examples)
        self._rides: dict[int, Ride] = {}
        self._asks: deque[Ask] = deque()
        self._asked: set[int] = set()
        self._abandoned: set[int] = set()
        self._ended: list[Outcome] = []
        self.num_ended = 0
        self._zero_s = self._meet(seed)
        self._plan(seed)

    # ------------------------------------------------------------ playing

    @property
    def over(self) -> bool:
        """Every request has ended."""
        return self.num_ended == len(self.requests.arrival_s)

    def next_ask(self) -> Ask | None:
        """Let time pass until a request has come to the device; None when the episode is over."""
        while not self._asks and not self.over:
            self._clock.step()
        return self._asks.popleft() if self._asks else None

    def decide(self, request_id: int, decision: Decision) -> None:
        """Answer the device; the answer is there `base_s` later."""
        self._rides[request_id].decision = decision
        answer = Decided(request_id=request_id, decision=decision)
        self._clock.at(self._clock.now_s + self._scene.profile.overheads.base_s, self.nodes.device.receive, "controller", b"", answer)

    def abandon(self, request_id: int) -> None:
        """No decision will come: the client gives the request up, as one that is refused."""
        scenario = self._scene.scenario
        message, limit_s = "nothing was decided for it", scenario.workload.deadline_s
        self._abandoned.add(request_id)
        self._finish(Outcome(request_id=request_id, status="overload", message=message, deadline_s=limit_s))

    def take_ended(self) -> tuple[Outcome, ...]:
        """Requests that ended since this was last asked, in the order they ended."""
        ended, self._ended = tuple(self._ended), []
        return ended

    # ------------------------------------------------------------ before time zero

    def _meet(self, seed: int) -> float:
        """Start the nodes early enough that all have heard of each other; when the episode's time zero is."""
        scene, clock = self._scene, self._clock
        period_s = scene.scenario.topology.telemetry_period_s
        delays_s = scene.uplink.delay_s + scene.wan.delay_s + scene.neighbour.delay_s
        num_pings = math.ceil((PREPARE_S + 4 * delays_s) / period_s) + 3
        zero_s = 1.0 + num_pings * period_s  # machines take an instant of 0 for none
        phases_s = np.random.default_rng([seed & 0xFFFFFFFF, _PHASE_SALT]).random(2) * period_s
        memory = scene.profile.memory_bytes
        nodes = self.nodes
        hosts = [(nodes.cloud, "cloud", 0.0), *((edge, "edge", phases_s[1]) for edge in nodes.edges.values())]
        for host, tier, phase_s in [*hosts, (nodes.device, "device", phases_s[0])]:
            clock.at(1.0 + float(phase_s), host.begin, memory.get(tier, 0))
        start = StartEpisode(seed=seed, starts_in_s=PREPARE_S, controller="the simulator")
        clock.at(zero_s - PREPARE_S, nodes.device.receive, "down", b"client", start)
        return zero_s

    def _plan(self, seed: int) -> None:
        """All that comes from outside, whatever is decided."""
        scene, arrival_s = self._scene, self.requests.arrival_s.tolist()
        for index, at_s in enumerate(arrival_s):
            self._clock.at(self._zero_s + at_s, self._submit, index)
        config = scene.scenario.background
        for index, at_s in enumerate(draw_background(config, seed, arrival_s[-1]).tolist()):
            self._clock.at(self._zero_s + at_s, self._background, index)

    # ------------------------------------------------------------ what comes from outside

    def _submit(self, index: int) -> None:
        workload, example = self._scene.scenario.workload, int(self.requests.example[index])
        ride = Ride(example, -1 - index if self.requests.perturbed[index] else example)
        self._rides[index] = ride
        submit = Submit(request_id=index, model=self._scene.scenario.model, deadline_s=workload.deadline_s, stream=workload.inputs.stream)
        self.nodes.device.receive("down", b"client", submit, self._input(ride))

    def _background(self, index: int) -> None:
        scene, decision = self._scene, self._scene.background
        work = Work(
            request_id=BACKGROUND_ID | index,
            decision=decision,
            stage=0,
            budget_s=BACKGROUND_BUDGET_S,
            tenant=scene.scenario.background.tenant,
            fresh=True,
        )
        ride = Ride(index % scene.num_examples, index % scene.num_examples, decision)
        self.nodes.edges[EDGE].receive("down", BACKGROUND_PEER, work, self._input(ride))

    def _input(self, ride: Ride) -> Cargo:
        return self._scene.cargos.make(ride, next(iter(self._scene.profile.variants)), 0)

    # ------------------------------------------------------------ what the device says

    def _hear(self, message: Message) -> None:
        match message:
            case Observation(request_id=request_id):
                self._asked.add(request_id)
                self._asks.append(Ask(observation=message))
            case Outcome(request_id=request_id) if request_id in self._abandoned:
                pass  # its client has gone
            case Outcome(request_id=request_id) if request_id in self._asked:
                self._finish(message)
            case Outcome():
                self._undecided(message)
            case _:
                pass  # that the episode has started

    def _undecided(self, outcome: Outcome) -> None:
        """It was answered, refused or too late before anybody was asked."""
        observation = self._known_of(outcome.request_id)
        self._asks.append(Ask(observation=observation, refused=outcome.status != "ok", skipped=outcome.status == "ok"))
        self._clock.at(self._clock.now_s + self._scene.profile.overheads.base_s, self._finish, self._later(outcome))

    def _later(self, outcome: Outcome) -> Outcome:
        base_s, breakdown = self._scene.profile.overheads.base_s, outcome.breakdown
        told = msgspec.structs.replace(breakdown, client_s=breakdown.client_s + base_s)
        return msgspec.structs.replace(outcome, latency_s=outcome.latency_s + base_s, breakdown=told)

    def _known_of(self, request_id: int) -> Observation:
        """What a policy would have been shown of a request that it is not asked about."""
        now_s, scenario = self._clock.now_s, self._scene.scenario
        expires_at_s = self._zero_s + float(self.requests.arrival_s[request_id]) + scenario.workload.deadline_s
        task = DeviceTask(
            request_id=request_id, model=scenario.model, peer=b"", arrived_at_s=now_s, expires_at_s=expires_at_s,
            difficulty=self._scene.told(self._rides[request_id].example),
        )  # fmt: skip
        return self.nodes.device_machine.observe(task, now_s)

    def _finish(self, outcome: Outcome) -> None:
        """Add what only the client knows: the label, and the profile's privacy measure."""
        ride, profile = self._rides[outcome.request_id], self._scene.profile
        leakage = outcome.leakage
        if outcome.decision is not None and outcome.link_bytes[0]:
            leakage = profile.variants[outcome.decision.variant].leakage[outcome.decision.cuts[0]]
        label = self._scene.answers.label(ride.example)
        right = outcome.prediction == label if outcome.prediction is not None else None
        self._ended.append(msgspec.structs.replace(outcome, correct=right, leakage=leakage))
        self.num_ended += 1
