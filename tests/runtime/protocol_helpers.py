"""A tiny manifest and event makers for state-machine tests: no model files, no sockets."""

from __future__ import annotations

import numpy as np

from runtime.codec import from_frames
from runtime.codecs.parcel import pack
from runtime.energy import ComputePower, RadioPower
from runtime.links import EmulatedLink
from runtime.messages import Decision, EpisodeStarted, Message, NodeTelemetry, Pong, StartEpisode, Submit, TensorSpec, Tier, Work
from runtime.models.manifest import Manifest, VariantInfo
from runtime.protocol.connection import Connection
from runtime.protocol.device_machine import DeviceMachine, Fallback
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Computed, Instruction, Received, Run, Send, Source, Tick
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.identity import Identity
from runtime.protocol.node_machine import NodeMachine

IMAGE = TensorSpec(shape=(1, 1, 2, 2), dtype="uint8")
FEATURES = TensorSpec(shape=(1, 4), dtype="float32")
SCORES = TensorSpec(shape=(1, 3), dtype="float32")
LOGITS = np.array([[0.0, 2.0, 1.0]], dtype=np.float32)


def tiny_manifest() -> Manifest:
    """Three stages, exits after 2 and 3, one variant; every stage takes 10 ms, every head 1 ms."""
    variant = VariantInfo(
        cuts=((IMAGE,), (FEATURES,), (FEATURES,), (FEATURES,)),
        segments={},
        outputs=(SCORES, SCORES),
        stage_reference_s=(0.01, 0.01, 0.01),
        head_reference_s=(0.001, 0.001),
        accuracy={},
        size_bytes=1,
    )
    return Manifest(
        model="tiny",
        classes=("a", "b", "c"),
        num_stages=3,
        exit_ends=(2, 3),
        variants={"fp32": variant},
        dataset="none",
        built_on="test",
    )


def make_identity(tier: Tier, slowdown: float = 1.0, max_waiting: int = 4) -> Identity:
    return Identity(name=tier, tier=tier, pid=1, slowdown=slowdown, max_waiting=max_waiting)


def make_node(tier: Tier = "edge", *, upstream: bool = True, link: EmulatedLink | None = None, max_waiting: int = 4) -> NodeMachine:
    up = Connection(link, period_s=0.1, timeout_s=1.0) if upstream else None
    node = NodeMachine(make_identity(tier, max_waiting=max_waiting), HostedModels([tiny_manifest()]), up, Downstream(None))
    if upstream:
        hear_from_above(node, 0.6)
    return node


def make_device(
    *,
    upstream: bool = True,
    fallback: Fallback | None = None,
    controller: bool = False,
    max_in_flight: int = 4,
    radio_power: RadioPower | None = None,
) -> DeviceMachine:
    up = Connection(None, period_s=0.1, timeout_s=1.0) if upstream else None
    device = DeviceMachine(
        make_identity("device"),
        HostedModels([tiny_manifest()]),
        up,
        max_in_flight=max_in_flight,
        decision_budget_s=0.02,
        compute_power=ComputePower(busy_watts=5.0, idle_watts=3.0),
        radio_power=radio_power or RadioPower(slope_watts_per_byte_per_s=1e-6, base_watts=1.0),
        fallback=fallback,
        controller=controller,
    )
    if upstream:
        hear_from_above(device, 0.6)
    return device


def hear_from_above(node: NodeMachine, at_s: float) -> None:
    telemetry = (NodeTelemetry(tier="edge", backlog_s=0.25, num_waiting=2), NodeTelemetry(tier="cloud", age_s=0.05))
    node.handle(received(Pong(sequence=0, nodes=telemetry), at_s=at_s, source="up"))


def decision(cuts: tuple[int, int], exit: int = 1) -> Decision:
    return Decision(model="tiny", variant="fp32", cuts=cuts, exit=exit)


def image() -> np.ndarray:
    return np.zeros((1, 1, 2, 2), dtype=np.uint8)


def features() -> np.ndarray:
    return np.zeros((1, 4), dtype=np.float32)


def received(
    message: Message, tensors: list[np.ndarray] | None = None, *, at_s: float, source: Source = "down", peer: bytes = b"client"
) -> Received:
    named = peer if source in ("down", "neighbour") else b""
    return Received(source=source, message=message, parcel=pack(tensors or []), num_bytes=100, at_s=at_s, peer=named)


def submit(request_id: int, at_s: float, given: Decision | None = None, deadline_s: float = 1.0) -> Received:
    return received(Submit(request_id=request_id, model="tiny", deadline_s=deadline_s, decision=given), [image()], at_s=at_s)


def work(request_id: int, at_s: float, cuts: tuple[int, int], stage: int, budget_s: float = 1.0, peer: bytes = b"device") -> Received:
    tensor = image() if stage == 0 else features()
    message = Work(request_id=request_id, decision=decision(cuts), stage=stage, budget_s=budget_s)
    return received(message, [tensor], at_s=at_s, peer=peer)


def computed(request_id: int, started_at_s: float, finished_at_s: float, tensors: list[np.ndarray]) -> Computed:
    """The worker's word; logits are those of exit 1."""
    return Computed(
        request_id=request_id,
        parcel=pack(tensors),
        exit=1 if tensors and tensors[0].shape == LOGITS.shape else None,
        started_at_s=started_at_s,
        finished_at_s=finished_at_s,
        at_s=finished_at_s,
    )


def tick(at_s: float) -> Tick:
    return Tick(at_s=at_s)


def start_episode(seed: int, at_s: float) -> Received:
    return received(StartEpisode(seed=seed, starts_in_s=0.5), at_s=at_s)


def episode_started(seed: int, at_s: float) -> Received:
    return received(EpisodeStarted(seed=seed), at_s=at_s, source="up")


def sent(instructions: list[Instruction], target: Source) -> list[Message]:
    """The messages among the instructions that go to this target."""
    return [from_frames(item.frames)[0] for item in instructions if isinstance(item, Send) and item.target == target]


def runs(instructions: list[Instruction]) -> list[Run]:
    return [item for item in instructions if isinstance(item, Run)]
