"""Nodes of one job in one process: real state machines and real trainers, messages handed over in order, time moved by hand."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np

from runtime.codec import num_bytes, to_frames, unseal
from runtime.messages import DataSpec, FitJob, FitQuery, FitReport, FitStart, LocalSpec, Message, NetworkSpec, TauSpec
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Instruction, Received, Send
from runtime.protocol.identity import Identity
from runtime.protocol.training_ports import TrainingPorts
from runtime.training.places import assign_roles
from runtime.training.protocol.part import TrainingPart
from runtime.training.protocol.tasks import CancelLocal, Forget, Save, StepsTaken, TrainerResult, TrainerTask
from runtime.training.worker import TrainingWorker

SESSION = b"session"
TIERS = {"cloud": "cloud", "edge": "edge"}
Fate = Callable[[str, str, Message], int]
"""How often a message from one node to another arrives."""


def make_job(architecture: str, num_clients: int = 1, **changes: object) -> FitJob:
    """Two small stages with an exit behind each, on the digits; momentum, so that velocities matter."""
    stages = [[{"channels": 4, "stride": 2}], [{"channels": 6, "stride": 2}]]
    network = NetworkSpec(
        factory="runtime.models.network:conv_chain",
        arguments={"stages": stages, "exits": [{"end": 1}, {"end": 2}], "num_classes": 10},
    )
    job = FitJob(
        name="j",
        network=network,
        data=DataSpec(num_clients=num_clients, partition="iid"),
        architecture=architecture,
        cut=1 if architecture == "split" else 0,
        rounds=2,
        tau=TauSpec(tau=3),
        local=LocalSpec(learning_rate=0.05, momentum=0.9),
        round_deadline_s=1000.0,
        evaluate_every=100,
    )
    return msgspec.structs.replace(job, **changes)


@dataclass
class _Node:
    name: str
    above: str
    start: FitStart
    upstream: Connection | None = None
    part: TrainingPart = field(init=False)
    worker: TrainingWorker = field(init=False)
    finished: threading.Event = field(default_factory=threading.Event)


class Wires:
    """A cloud, an edge and devices below it.  What the root saves last is in `weights`."""

    def __init__(self, job: FitJob, fate: Fate = lambda source, target, message: 1) -> None:
        self.job, self.fate, self.at_s = job, fate, 0.0
        devices = [f"device-{index}" for index in range(job.data.num_clients)]
        upstreams = {"cloud": "", "edge": "cloud"} | dict.fromkeys(devices, "edge")
        self._nodes: dict[str, _Node] = {}
        self._queue: deque[tuple[str, str, list[bytes]]] = deque()
        self.delivered: list[tuple[str, str, Message]] = []
        self.answers: list[Message] = []
        """To the session."""
        self.weights = np.zeros(0, dtype=np.float32)
        places = assign_roles(job, upstreams, dict.fromkeys(upstreams, ""))
        for name, place in places.items():
            start = FitStart(request_id=1, job=job, role=place.role, clients=place.clients, client=place.client)
            self._nodes[name] = _Node(name=name, above=upstreams[name], start=start)
        for name in places:
            self._boot(self._nodes[name])

    def restart(self, name: str) -> None:
        """Kill a node and start it anew: what it knew is lost, messages to and from it too."""
        self._nodes[name].worker.close()
        self._queue = deque(entry for entry in self._queue if name not in entry[:2])
        self._boot(self._nodes[name])

    def hand(self, name: str, peer: bytes, message: Message) -> None:
        """A message without tensors, from nowhere in particular."""
        self._receive(name, peer, [bytes(frame) for frame in to_frames(message)])

    def report(self) -> FitReport:
        """The root's."""
        self.hand("cloud", SESSION, FitQuery(request_id=9, job=self.job.name))
        report = self.answers[-1]
        assert isinstance(report, FitReport)
        return report

    def run(self, until: Callable[[Wires], bool] | None = None, max_steps: int = 5000) -> FitReport:
        """Hand over message after message, and let time pass when there is none, until the job is over."""
        for _ in range(max_steps):
            if until is not None and until(self):
                return self.report()
            if self._queue:
                self._deliver(*self._queue.popleft())
                continue
            if (report := self.report()).phase in {"done", "failed"}:
                return report
            due_s = min(node.part.next_tick_at_s for node in self._nodes.values())
            self.at_s = max(self.at_s, due_s) + 1e-3
            for node in self._nodes.values():
                self._perform(node, node.part.tick(self.at_s))
        raise AssertionError(f"the job is not over after {max_steps} messages: {self.report()}")

    def close(self) -> None:
        """End the trainers' threads."""
        for node in self._nodes.values():
            node.worker.close()

    # ------------------------------------------------------------ details

    def _boot(self, node: _Node) -> None:
        node.upstream = Connection(None, period_s=1.0, timeout_s=1e9) if node.above else None
        if node.upstream is not None:
            node.upstream.heard(self.at_s)
        tier = TIERS.get(node.name, "device")
        identity = Identity(name=node.name, tier=tier, pid=1, slowdown=1.0, max_waiting=4)
        node.part = TrainingPart(TrainingPorts(identity, node.upstream, Downstream(None), None), 1.0)
        node.worker = TrainingWorker(node.finished.set, lambda: 0.0)
        self.hand(node.name, SESSION, node.start)

    def _deliver(self, source: str, target: str, frames: list[bytes]) -> None:
        message = unseal(frames)[0]
        for _ in range(self.fate(source, target, message)):
            self.delivered.append((source, target, message))
            self._receive(target, b"" if self._nodes[source].above != target else source.encode(), frames)

    def _receive(self, name: str, peer: bytes, frames: list[bytes]) -> None:
        message, parcel = unseal(list(frames))
        node = self._nodes[name]
        source = "down" if peer else "up"
        event = Received(source=source, message=message, parcel=parcel, num_bytes=num_bytes(frames), at_s=self.at_s, peer=peer)
        self._perform(node, node.part.on_message(event))

    def _perform(self, node: _Node, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Send):
                self._send(node, instruction)
            else:
                self._train(node, instruction)

    def _send(self, node: _Node, send: Send) -> None:
        frames = [bytes(frame) for frame in send.frames]
        if send.target == "up":
            self._queue.append((node.name, node.above, frames))
        elif send.peer != SESSION:
            self._queue.append((node.name, send.peer.decode(), frames))
        else:
            self.answers.append(unseal(frames)[0])

    def _train(self, node: _Node, task: TrainerTask) -> None:
        if isinstance(task, Save):
            self.weights = task.weights
        node.finished.clear()
        node.worker.submit(task)
        if isinstance(task, CancelLocal | Forget):
            return
        while isinstance(result := self._result(node), StepsTaken):
            self._perform(node, node.part.on_done(result, self.at_s))
        self._perform(node, node.part.on_done(result, self.at_s))

    def _result(self, node: _Node) -> TrainerResult:
        while not node.worker.done:
            assert node.finished.wait(60)
            node.finished.clear()
        return node.worker.done.popleft()


@contextmanager
def wires(job: FitJob, fate: Fate = lambda source, target, message: 1) -> Iterator[Wires]:
    """Nodes that end with the block."""
    nodes = Wires(job, fate)
    try:
        yield nodes
    finally:
        nodes.close()
