"""One node as a process: sockets and threads around a state machine.

    python -m runtime.node --config node.json

Prints one JSON line when it is ready, serves until SIGTERM, SIGINT, or (if asked to) until its parent is gone.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import msgspec
import psutil

from runtime.codec import num_bytes, unseal
from runtime.errors import DrlctlError, InvalidConfig, MalformedMessage
from runtime.inference.batch_cost import fixed_fractions
from runtime.inference.difficulty import DifficultyPredictor
from runtime.inference.filter import load_relevance
from runtime.inspector import Inspector
from runtime.librarian import Librarian
from runtime.links import EmulatedLink
from runtime.messages import TIERS, Tier
from runtime.models.difficulty import DIFFICULTY_NAME, read_difficulty
from runtime.protocol.connection import Connection
from runtime.protocol.device_machine import DeviceMachine, Fallback
from runtime.protocol.downstream import Downstream
from runtime.protocol.edge_machine import EdgeMachine
from runtime.protocol.events import (
    DropHeld,
    Event,
    Inspect,
    Instruction,
    KeepFile,
    Load,
    ReadPart,
    Received,
    Rejected,
    Run,
    RunBatch,
    RunMeasure,
    Send,
    Source,
    Tick,
    Undelivered,
    Unload,
    UseController,
)
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.identity import Identity
from runtime.protocol.node_machine import NodeMachine
from runtime.protocol.streams import Streams
from runtime.provision import ModelSources, Provision, provide
from runtime.rates import check_rate
from runtime.topology import LinkConfig, TierConfig, Topology
from runtime.training.protocol.tasks import TrainerDone
from runtime.training.worker import TrainingWorker
from runtime.transport import Context, Dealer, Descriptor, Endpoint, Poller, Router, Waker
from runtime.worker import ComputeWorker, DelayLine

log = logging.getLogger(__name__)

DRAIN_MESSAGES = 64
"""Messages taken from one socket before the others get their turn."""
LONGEST_WAIT_S = 1.0
SWITCH_INTERVAL_S = 5e-4
"""How long one thread may keep another waiting for the interpreter: shorter than a stage takes."""


class NodeConfig(ModelSources, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that one node process needs to know.  Emulated slowness is relative to the first of its models."""

    name: str
    tier: Tier
    listen: str = "tcp://127.0.0.1:*"
    upstream: str = ""
    """Address of the node above; empty for the topmost."""
    neighbours: tuple[str, ...] = ()
    """Edge only: addresses of the edges that it may hand work to."""
    controller: str = ""
    """Device only: where to ask for decisions until an episode says otherwise."""
    cost_model: str = ""
    """Device only, used by `drlctl node`: file of the cost model that the greedy fallback predicts with."""
    topology: Topology = Topology()
    exit_with_parent: bool = False
    """End when standard input reaches its end, so that a dead launcher leaves nothing behind."""

    def __post_init__(self) -> None:
        if self.neighbours and self.tier != "edge":
            raise InvalidConfig(f"only edges have neighbours; a {self.tier} got {', '.join(self.neighbours)}")
        if len(set(self.neighbours)) != len(self.neighbours):
            raise InvalidConfig(f"each neighbour's address is given once, got {', '.join(self.neighbours)}")


def build_machine(
    config: NodeConfig,
    provision: Provision,
    fallback: Fallback | None,
    fixed_fractions: dict[str, dict[str, float]] | None = None,
    difficulty: dict[str, DifficultyPredictor] | None = None,
) -> NodeMachine:
    """The state machine of a node; `fixed_fractions` by model where it forms batches (runtime/inference/batch_cost.py)."""
    topology = config.topology
    models = HostedModels([engine.manifest for engine in provision.engines.values()])
    tier, reference_s = topology.tier(config.tier), models.find(models.names[0]).full_reference_s
    own, *above = (topology.tier(name).slowdown_for(reference_s) for name in TIERS[TIERS.index(config.tier) :])
    identity = Identity(
        name=config.name,
        tier=config.tier,
        pid=os.getpid(),
        slowdown=own,
        max_waiting=tier.max_waiting,
        tenancy=tier.tenancy,
        batching=tier.batching,
        fixed_fractions=fixed_fractions or {},
        slowdowns_above=tuple(above),
    )
    own_trace = "" if config.name == config.tier else f":{config.name}"  # devices beside each other do not see the same rates
    up_link = {"device": (f"uplink{own_trace}", topology.uplink), "edge": (f"wan{own_trace}", topology.wan), "cloud": None}[config.tier]
    down_link = ("uplink", topology.uplink) if config.tier == "edge" else ("wan", topology.wan)
    upstream = None
    if config.upstream:
        if up_link is None:
            raise InvalidConfig("a cloud node has no upstream")
        upstream = Connection(_emulated(*up_link), topology.telemetry_period_s, topology.peer_timeout_s)
    if config.tier == "cloud":
        return NodeMachine(
            identity,
            models,
            upstream,
            Downstream(_maker(*down_link)),
            cache=tier.cache,
            manifests=provision.manifests,
            residency=provision.residency,
        )
    if config.tier == "edge":
        return EdgeMachine(
            identity,
            models,
            upstream,
            Downstream(_maker(*down_link), _maker("neighbour", topology.neighbour)),
            cache=tier.cache,
            manifests=provision.manifests,
            residency=provision.residency,
            neighbours={address.encode(): _neighbour(address, f"neighbour{own_trace}", topology) for address in config.neighbours},
            handover=tier.handover,
        )
    return DeviceMachine(
        identity,
        models,
        upstream,
        max_in_flight=topology.max_in_flight,
        decision_budget_s=topology.decision_budget_s,
        compute_power=topology.compute_power,
        radio_power=topology.radio_power,
        fallback=fallback,
        controller=bool(config.controller),
        cache=tier.cache,
        streams=_streams(tier),
        difficulty=difficulty or {},
        manifests=provision.manifests,
        residency=provision.residency,
    )


def _neighbour(address: str, link: str, topology: Topology) -> Connection:
    """The connection to a neighbour; a node's emulated ones follow one trace, each with a queue of its own."""
    emulated = _emulated(link, topology.neighbour)
    return Connection(emulated, topology.telemetry_period_s, topology.peer_timeout_s, "neighbour", address.encode())


def _difficulty(config: NodeConfig) -> dict[str, DifficultyPredictor]:
    """What tells a device how hard inputs are, by model.  The first model must have it, others may.

    Raises InvalidPredictor when it is missing, or of other weights than the model's; InvalidConfig for a device without folders.
    """
    if not config.topology.tier(config.tier).difficulty:
        return {}
    if not config.model_dirs:
        raise InvalidConfig("a device that tells how hard inputs are needs its first model's folder: fetched models come without")
    first, *others = map(Path, config.model_dirs)
    folders = [first, *(folder for folder in others if (folder / DIFFICULTY_NAME).exists())]
    return {predictor.card.model: predictor for predictor in map(read_difficulty, folders) if predictor.targets}


def _streams(tier: TierConfig) -> Streams | None:
    """A device's filters.  Raises InvalidPredictor for a relevance file that is none."""
    if tier.filter is None:
        return None
    return Streams(tier.filter, load_relevance(Path(tier.relevance)) if tier.relevance else None)


def _maker(name: str, link: LinkConfig) -> Callable[[], EmulatedLink] | None:
    """Makes the link for answers to one node, all alike, each with its own queue.  Raises InvalidConfig as EmulatedLink."""
    if not link.emulated:
        return None
    check_rate(link.down_rate)  # now: the first link is made when a node below is first heard of
    return lambda: EmulatedLink(link.down_rate, link.delay_s, link.jitter_s, name, "down")


def _emulated(name: str, link: LinkConfig) -> EmulatedLink | None:
    return EmulatedLink(link.rate, link.delay_s, link.jitter_s, name, "up") if link.emulated else None


class Node:
    """Performs a machine's instructions and brings it events.  Leaving its `with` block ends every thread and socket."""

    def __init__(self, config: NodeConfig, fallback: Fallback | None = None) -> None:
        tier = config.topology.tier(config.tier)
        with ExitStack() as stack:
            self._context = stack.enter_context(Context())
            provision = provide(config, config.tier, tier.model_memory_bytes, self._context, config.upstream)
            engines = provision.engines
            if not provision.in_memory and tier.batching.max_batch > 1 and tier.batching.fixed_fraction is None:
                raise InvalidConfig("a node that loads models when they are needed cannot measure batches: set batching.fixed_fraction")
            self.machine = build_machine(
                config,
                provision,
                fallback,
                {name: fixed_fractions(engine, tier.batching) for name, engine in engines.items()},
                _difficulty(config),
            )
            self._router = self._context.router(config.listen)
            stack.callback(self._router.close)
            self._up = self._context.dealer(config.upstream) if config.upstream else None
            if self._up is not None:
                stack.callback(self._up.close)
            self._neighbours = {address.encode(): self._context.dealer(address) for address in config.neighbours}
            for neighbour in self._neighbours.values():
                stack.callback(neighbour.close)
            self._controller: Dealer | None = None
            stack.callback(self._drop_controller)
            self._waker = Waker()
            stack.callback(self._waker.close)
            self._worker = ComputeWorker(engines, self._waker.wake)
            stack.callback(self._worker.close)
            self._inspector = Inspector(self._waker.wake)
            stack.callback(self._inspector.close)
            self._librarian = Librarian(engines, provision.store, self._waker.wake)
            stack.callback(self._librarian.close)
            self._trainer = TrainingWorker(self._waker.wake, self._worker.busy_s)
            stack.callback(self._trainer.close)
            self._quick: deque[Run | RunBatch] = deque()
            self._delays = DelayLine(self._waker.wake)
            stack.callback(self._delays.close)
            peers = [*([self._up] if self._up is not None else []), *self._neighbours.values()]
            self._poller = Poller([self._router, self._waker, *peers])
            self._parent: Descriptor | None = None
            if config.exit_with_parent:
                self._parent = Descriptor(sys.stdin.fileno())
                self._poller.add(self._parent)
            self._stopping = False
            self._next_memory_s = 0.0
            self._use_controller(config.controller)
            self._stack = stack.pop_all()

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._router.address

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def stop(self) -> None:
        """End `run` soon; safe from signal handlers and other threads."""
        self._stopping = True
        self._waker.wake()

    def run(self) -> None:
        """Serve until stopped."""
        self._handle(Tick(at_s=time.perf_counter(), memory_bytes=peak_memory_bytes()))
        while not self._stopping:
            wait_s = 0.0 if self._quick else min(self.machine.next_tick_at_s - time.perf_counter(), LONGEST_WAIT_S)
            for endpoint in self._poller.wait(max(0.0, wait_s)):
                self._read(endpoint)
            self._take_computed()
            while self._inspector.done:
                self._handle(msgspec.structs.replace(self._inspector.done.popleft(), at_s=time.perf_counter()))
            while self._librarian.done:
                self._handle(msgspec.structs.replace(self._librarian.done.popleft(), at_s=time.perf_counter()))
            while self._trainer.done:
                self._handle(TrainerDone(result=self._trainer.done.popleft(), at_s=time.perf_counter()))
            while self._delays.released:
                self._send(self._delays.released.popleft())
            if self._quick:
                self._handle(self._worker.perform(self._quick.popleft()))
            self._tick()

    # ------------------------------------------------------------ events

    def _read(self, endpoint: Endpoint) -> None:
        if endpoint is self._waker:
            self._waker.clear()
        elif endpoint is self._parent:
            self._stopping = not os.read(sys.stdin.fileno(), 4096) or self._stopping
        elif isinstance(endpoint, Router):
            for _ in range(DRAIN_MESSAGES):
                received = endpoint.recv()
                if received is None:
                    return
                self._take("down", received[1], received[0])
                self._take_computed()
        elif isinstance(endpoint, Dealer):
            source, name = self._whose(endpoint)
            for _ in range(DRAIN_MESSAGES):
                frames = endpoint.recv()
                if frames is None:
                    return
                self._take(source, frames, name)

    def _whose(self, dealer: Dealer) -> tuple[Source, bytes]:
        """Where a message of this socket comes from, and which neighbour's it is."""
        if dealer is self._up:
            return "up", b""
        name = next((name for name, neighbour in self._neighbours.items() if neighbour is dealer), b"")
        return ("neighbour", name) if name else ("controller", b"")

    def _take_computed(self) -> None:
        """Between messages too: an idle worker costs more than a message that waits."""
        while self._worker.done:
            self._handle(msgspec.structs.replace(self._worker.done.popleft(), at_s=time.perf_counter()))

    def _take(self, source: Source, frames: list[bytes | memoryview], peer: bytes) -> None:
        at_s = time.perf_counter()
        try:
            message, parcel = unseal(frames)
        except MalformedMessage as exc:
            log.debug("malformed message from %s: %s", source, exc)
            self._handle(Rejected(reason=str(exc), at_s=at_s))
            return
        self._handle(Received(source=source, message=message, parcel=parcel, num_bytes=num_bytes(frames), at_s=at_s, peer=peer))

    def _tick(self) -> None:
        at_s = time.perf_counter()
        if at_s >= self._next_memory_s:
            self._next_memory_s = at_s + 1.0
            self._handle(Tick(at_s=at_s, memory_bytes=peak_memory_bytes()))
        elif at_s >= self.machine.next_tick_at_s:
            self._handle(Tick(at_s=at_s))

    # ------------------------------------------------------------ instructions

    def _handle(self, event: Event) -> None:
        for instruction in self.machine.handle(event):
            self._perform(instruction)

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Send(release_at_s=release_at_s):
                if release_at_s > time.perf_counter():
                    self._delays.hold(instruction)
                else:
                    self._send(instruction)
            case DropHeld():
                self._delays.drop_requests()
            case Run() | RunBatch() if self._worker.is_quick(instruction):
                self._quick.append(instruction)
            case Run() | RunBatch() | RunMeasure():
                self._worker.submit(instruction)
            case Inspect() if self._inspector.is_quick(instruction):
                self._handle(self._inspector.inspect(instruction))
            case Inspect():
                self._inspector.submit(instruction)
            case Load() | Unload() | KeepFile() | ReadPart():
                self._librarian.submit(instruction)
            case UseController(address=address):
                self._change_controller(address)
            case _:
                self._trainer.submit(instruction)

    def _send(self, send: Send) -> None:
        sent = False
        if send.target == "down":
            sent = self._router.send(send.peer, send.frames)
        elif send.target == "up" and self._up is not None:
            sent = self._up.send(send.frames)
        elif send.target == "neighbour":
            sent = self._neighbours[send.peer].send(send.frames)
        elif self._controller is not None:
            sent = self._controller.send(send.frames)
        if not sent:
            self._handle(Undelivered(target=send.target, request_id=send.request_id, at_s=time.perf_counter()))

    def _change_controller(self, address: str) -> None:
        """As whoever starts an episode says; an address that is none is that message's fault, and leaves the device without one."""
        try:
            self._use_controller(address)
        except InvalidConfig as exc:
            log.warning("no controller: %s", exc)
            self._handle(Rejected(reason=str(exc), at_s=time.perf_counter()))

    def _use_controller(self, address: str) -> None:
        if self._controller is not None and self._controller.address == address:
            return
        self._drop_controller()
        if address:
            self._controller = self._context.dealer(address)
            self._poller.add(self._controller)

    def _drop_controller(self) -> None:
        if self._controller is not None:
            self._poller.remove(self._controller)
            self._controller.close()
            self._controller = None


def peak_memory_bytes() -> int:
    """Peak resident set of this process so far.

    From /proc where there is one: getrusage's figure survives exec and would be the launcher's.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        log.debug("no /proc/self/status; using the current resident set")
    return int(psutil.Process().memory_info().rss)


@contextmanager
def stopping_on_signals(node: Node) -> Iterator[None]:
    """SIGTERM and SIGINT end the node's `run`."""

    def stop(number: int, frame: FrameType | None) -> None:
        node.stop()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_node(config: NodeConfig, fallback: Fallback | None = None) -> int:
    """Serve as one node until told to stop; the process's exit code."""
    with Node(config, fallback) as node, stopping_on_signals(node):
        ready = {"ready": True, "name": config.name, "tier": config.tier, "address": node.address, "pid": os.getpid()}
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.collect()
        gc.freeze()  # what lives now lives until the end: keep the collector's pauses short
        node.run()
    return 0


def load_node_config(path: Path) -> NodeConfig:
    """Read a node's JSON configuration.  Raises InvalidConfig."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=NodeConfig)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidConfig(f"node configuration {path}: {exc}; tiers are {', '.join(TIERS)}") from exc


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime.node --config FILE`: a node that needs no policy code; its fallback is device-only."""
    parser = argparse.ArgumentParser(prog="python -m runtime.node", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True)
    try:
        return run_node(load_node_config(parser.parse_args(argv).config))
    except DrlctlError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
