"""Training parts of several nodes in virtual time: real messages and frames, no sockets, local steps on quadratics.

Client k's loss is |w - a_k|^2 / 2, so that a step from w is w - lr (w - a_k), and everything can be computed by hand.
"""

from __future__ import annotations

import heapq
import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from runtime.codec import num_bytes, seal, unseal
from runtime.codecs.parcel import Parcel, unpack
from runtime.errors import DrlctlError
from runtime.messages import DataSpec, FitJob, FitReport, FitStart, LocalSpec, Message, NetworkSpec, TauSpec, Tier, UpdateHeader
from runtime.protocol.events import Instruction, Received, Send
from runtime.training.exchange import Exchange, Written
from runtime.training.gossip import consensus_distance, receive, weighted_consensus
from runtime.training.places import assign_roles
from runtime.training.protocol.laid_base import digest_of
from runtime.training.protocol.masking_tasks import MakeKeys, Reveal, ShareKeys
from runtime.training.protocol.part import TrainingPart
from runtime.training.protocol.ports import Sent
from runtime.training.protocol.tasks import (
    Aggregate,
    Aggregated,
    Assess,
    Assessed,
    CancelLocal,
    Decode,
    Decoded,
    Evaluate,
    Evaluated,
    Forget,
    GossipDone,
    GossipSteps,
    LocalDone,
    LocalSteps,
    Prepare,
    Prepared,
    Save,
    Saved,
    TrainerResult,
    TrainerTask,
)
from runtime.training.server import Server
from runtime.training.worker import failed_result

LINK_S = 0.01
STEP_S = 0.1
SIZE = 3
BASE = np.arange(200, dtype=np.float32)
"""What clients need of a base, where the job transfers."""
SESSION = b"session"


def job(**changes: object) -> FitJob:
    """Two clients, identity everything, learning rate 0.5, one step a round."""
    base = FitJob(
        name="j",
        network=NetworkSpec(factory="none:none"),
        data=DataSpec(num_clients=2),
        rounds=3,
        local=LocalSpec(learning_rate=0.5),
        tau=TauSpec(tau=1),
        round_deadline_s=5.0,
        join_deadline_s=5.0,
    )
    return msgspec.structs.replace(base, **changes)


def optimum(client: int) -> np.ndarray:
    """Where client k's loss is least: (k, -k, 1)."""
    return np.array([client, -client, 1.0], dtype=np.float32)


def loss_on_test_split(weights: np.ndarray) -> float:
    """Whose optimum is (0, 0, 1)."""
    return float(np.square(weights - np.array([0.0, 0.0, 1.0])).sum() / 2)


def examples(client: int) -> int:
    """Weights that differ: 10, 20, 30, ..."""
    return 10 * (client + 1)


def masker() -> ModuleType:
    """Imported where a job is masked, because it needs a package that others do without."""
    return importlib.import_module("runtime.training.masker")


class Node:
    """A training part with a scripted trainer and perfect, slow links."""

    tier: Tier = "device"

    def __init__(self, world: World, name: str, above: str) -> None:
        self.world, self.name, self.above = world, name, above
        self.part = TrainingPart(self, slowdown=1.0)
        self.alive = True
        self.cancelled_round = -1
        self.exchange: Exchange | None = None
        self.server: Server | None = None
        self.client = -1
        self.folder: Path | None = None
        self.base_digest = ""
        self.masker: Any = None
        self.read: list[Decoded] = []
        """What it made of contributions that came."""

    # ports

    def up(self, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> Sent | None:
        if not self.above or not self.world.nodes[self.above].alive:
            return None
        frames = seal(message, parcel)
        return Sent(send=Send(target="up", frames=frames, request_id=transfer_id), num_bytes=num_bytes(frames), sending_s=0.0)

    def up_control(self, message: Message, at_s: float) -> Send | None:
        sent = self.up(-1, message, Parcel(), at_s)
        return sent.send if sent is not None else None

    def down(self, peer: bytes, transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> Sent:
        frames = seal(message, parcel)
        return Sent(send=Send(target="down", peer=peer, frames=frames), num_bytes=num_bytes(frames), sending_s=0.0)

    def down_control(self, peer: bytes, message: Message, at_s: float) -> Send:
        return self.down(peer, -1, message, Parcel(), at_s).send

    def unacknowledged_bytes(self, transfer_id: int) -> int:
        return 0

    def joules(self, compute_s: float, sent_bytes: int, sending_s: float) -> float:
        return compute_s

    # the scripted trainer

    def compute(self, task: TrainerTask) -> TrainerResult | None:
        try:
            return self._compute(task)
        except DrlctlError as exc:
            return failed_result(task, str(exc))

    def _compute(self, task: TrainerTask) -> TrainerResult | None:
        match task:
            case Prepare(job=given):
                self.client, self.folder = task.client, Path(given.folder) / self.name if given.folder else None
                if given.secure_aggregation:
                    self.world.num_starts += 1
                    self.masker = masker().Masker(SIZE, np.random.default_rng([task.client + 1, self.world.num_starts]).bytes)
                self.exchange, self.server = Exchange(given, SIZE, SIZE, task.client + 1), Server(given, SIZE, task.role)
                kept = self.server.load(self.folder) if task.role == "root" and self.folder is not None else None
                num_examples = examples(task.client) if task.client >= 0 else 0
                prepared = Prepared(job=given.name, number=task.number, num_parameters=SIZE, num_examples=num_examples)
                prepared = msgspec.structs.replace(prepared, base_digest=self.base_digest)
                if task.role not in {"root", "observer"} and given.architecture != "local":
                    return prepared
                prepared = msgspec.structs.replace(prepared, initial_loss=self.world.test_loss(np.zeros(SIZE)))
                if kept is None:
                    base = BASE if given.transfer is not None else None
                    return msgspec.structs.replace(prepared, weights=np.zeros(SIZE, dtype=np.float32), base=base, base_s=1.5)
                state, weights = kept
                return msgspec.structs.replace(prepared, weights=weights, records=state.records, attempt=state.attempt, tau=state.tau)
            case LocalSteps():
                assert self.exchange is not None
                start, *base = unpack(task.weights).tensors
                self.base_digest = digest_of(base[0]) if base else self.base_digest
                if self.world.job.transfer is not None and not self.base_digest:
                    return LocalDone(job=task.job, round=task.round, error="no base")
                weights = start.copy()
                for _ in range(task.tau):
                    weights -= self.world.job.local.learning_rate * (weights - self.world.optimum(self.client))
                update = (weights - start).astype(np.float32)
                self.world.updates.append((task.round, self.name, update))
                if self.world.job.secure_aggregation:
                    written = Written(b"", self.masker.mask(update, task.round, task.sealed))
                else:
                    written = self.exchange.write(update, None, number=task.round, sent_round=task.sent_round)
                loss = float(np.square(start - optimum(self.client)).sum() / 2)
                header = UpdateHeader(
                    client=self.name,
                    round=task.round,
                    num_examples=examples(self.client),
                    num_local_steps=task.tau,
                    metrics={"loss": loss},
                )
                return LocalDone(
                    job=task.job, round=task.round, header=header, parameters=written.parameters, parcel=written.parcel,
                    compute_s=task.tau * STEP_S, base_digest=self.base_digest,
                )  # fmt: skip
            case Decode():
                assert self.exchange is not None
                decoded = masker().read_masked(task, SIZE) if self.world.job.secure_aggregation else self.exchange.read(task)
                self.read.append(decoded)
                return decoded
            case Aggregate():
                assert self.server is not None
                assert self.exchange is not None
                if task.unmask is not None:
                    task = msgspec.structs.replace(task, updates=(masker().unmasked_mean(task.unmask, task.updates, SIZE),))
                combined = self.server.combine(task, self.folder)
                self.world.trajectory.append((self.name, combined.weights))
                done = Aggregated(job=task.job, weights=combined.weights, epsilon=combined.epsilon)
                if task.upwards is None or task.base is None:
                    return done
                number, update = task.upwards.round, combined.weights - task.base
                written = self.exchange.write(update, None, number=number, sent_round=task.sent_round)
                return msgspec.structs.replace(done, header=task.upwards, parameters=written.parameters, parcel=written.parcel)
            case Evaluate():
                return Evaluated(job=task.job, accuracy=0.5, test_loss=self.world.test_loss(task.weights))
            case MakeKeys():
                return self.masker.make_keys(task)
            case ShareKeys():
                return self.masker.share_keys(task)
            case Reveal():
                return self.masker.reveal(task)
            case GossipSteps():
                state = task.state
                for message in task.incoming:
                    state = receive(state, message)
                weights = state.vector.copy()
                for _ in range(task.tau):
                    weights -= self.world.job.local.learning_rate * (weights - self.world.optimum(self.client))
                loss = float(np.square(state.vector - optimum(self.client)).sum() / 2)
                return GossipDone(
                    job=task.job, round=task.round, weight=state.weight, vector=weights, loss=loss, compute_s=task.tau * STEP_S
                )
            case Assess():
                self.world.trajectory.append((self.name, weighted_consensus(task.states)))
                self.world.mass.append(sum(state.weight for state in task.states))
                return Assessed(job=task.job, accuracy=0.5, consensus_distance=consensus_distance(task.states))
            case Save():
                if self.folder is not None and self.server is not None:
                    self.server.save(task, self.folder)
                return Saved(job=task.job)
            case _:
                return None


class World:
    """Nodes by name, each with the name of the one above."""

    def __init__(self, given: FitJob, upstreams: dict[str, str]) -> None:
        self.job, self.upstreams = given, upstreams
        self.now_s = 0.0
        self.nodes = {name: Node(self, name, above) for name, above in upstreams.items()}
        self.inbox: list[tuple[str, Message]] = []
        self.trajectory: list[tuple[str, np.ndarray]] = []
        """(node, weights) of every aggregation."""
        self.updates: list[tuple[int, str, np.ndarray]] = []
        """(round, client, its plain update) of every local training."""
        self.num_starts = 0
        self.evaluation_s = 1e-3
        self.mass: list[float] = []
        """Sum of the peers' weights, each time that they were assessed."""
        self.lose: Callable[[str, str, Message], bool] = lambda source, target, message: False
        self.link_s: Callable[[str, str, list[bytes | memoryview]], float] = lambda source, target, frames: LINK_S
        """(from, to, frames) -> how long they are under way."""
        self.optimum: Callable[[int], np.ndarray] = optimum
        self.test_loss: Callable[[np.ndarray], float] = loss_on_test_split
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, at_s: float, what: Callable[[], None]) -> None:
        """Do this then."""
        heapq.heappush(self._events, (at_s, next(self._order), what))

    def start(self, *names: str) -> None:
        """Give roles to these nodes, or to all."""
        places = assign_roles(self.job, self.upstreams, dict.fromkeys(self.upstreams, ""))
        for name in names or places:
            place = places[name]
            message = FitStart(request_id=1, job=self.job, role=place.role, clients=place.clients, client=place.client)
            self.deliver(SESSION.decode(), name, "down", seal(message, Parcel()))

    def kill(self, name: str) -> None:
        """Its process is gone, with all that it knew."""
        self.nodes[name].alive = False

    def restart(self, name: str) -> None:
        """Somebody starts it again, without a job."""
        self.nodes[name] = Node(self, name, self.upstreams[name])

    def run(self, until_s: float = 100.0) -> FitReport:
        """Let time pass until nothing is to happen any more, or `until_s`; the root's report."""
        while True:
            tick_s, node = min(((node.part.next_tick_at_s, node) for node in self.nodes.values() if node.alive), key=lambda pair: pair[0])
            event_s = self._events[0][0] if self._events else np.inf
            if min(tick_s, event_s) > until_s:
                break
            if event_s <= tick_s:
                self.now_s, _, what = heapq.heappop(self._events)
                what()
            else:
                self.now_s = max(self.now_s, tick_s)
                self.perform(node, node.part.tick(self.now_s))
                if node.part.next_tick_at_s <= self.now_s:  # still due: it must have been told so by another event
                    self.now_s += 1e-3
        self.now_s = until_s
        return self.report()

    def report(self) -> FitReport:
        """The root's."""
        places = assign_roles(self.job, self.upstreams, dict.fromkeys(self.upstreams, ""))
        root = next(self.nodes[name] for name, place in places.items() if place.role in {"root", "observer"})
        player = root.part._player
        assert player is not None
        return player.report(1, 0)

    def deliver(self, source: str, target: str, side: str, frames: list[bytes | memoryview]) -> None:
        """Frames arrive after the link's delay, unless they are lost."""

        def arrive() -> None:
            message, parcel = unseal([bytes(frame) for frame in frames])
            if self.lose(source, target, message):
                return
            if target == SESSION.decode():
                self.inbox.append((source, message))
                return
            node = self.nodes[target]
            if not node.alive:
                return
            event = Received(
                source="up" if side == "up" else "down", message=message, parcel=parcel, num_bytes=num_bytes(frames), at_s=self.now_s,
                peer=source.encode() if side == "down" else b"",
            )  # fmt: skip
            self.perform(node, node.part.on_message(event))

        self.at(self.now_s + self.link_s(source, target, frames), arrive)

    def perform(self, node: Node, instructions: list[Instruction]) -> None:
        """Carry out what a node wants."""
        for instruction in instructions:
            match instruction:
                case Send(target="up"):
                    self.deliver(node.name, node.above, "down", instruction.frames)
                case Send(peer=peer):
                    self.deliver(node.name, peer.decode(), "up", instruction.frames)
                case CancelLocal(round=number):
                    node.cancelled_round = number
                case Forget():
                    node.cancelled_round = -1
                case _:
                    self._train(node, instruction)  # type: ignore[arg-type]

    def _train(self, node: Node, task: TrainerTask) -> None:
        takes_s = task.tau * STEP_S if isinstance(task, LocalSteps | GossipSteps) else 1e-3
        takes_s = self.evaluation_s if isinstance(task, Evaluate) else takes_s

        def finish() -> None:
            cancelled = isinstance(task, LocalSteps) and task.round == node.cancelled_round
            if not node.alive or self.nodes[node.name] is not node or cancelled:
                return
            result = node.compute(task)
            if result is not None:
                self.perform(node, node.part.on_done(result, self.now_s))

        self.at(self.now_s + takes_s, finish)


def flat_world(given: FitJob) -> World:
    """A cloud, one edge that passes on or averages, and the job's devices below it."""
    devices = {f"device-{index}": "edge-0" for index in range(given.data.num_clients)}
    return World(given, {"cloud": "", "edge-0": "cloud", **devices})
