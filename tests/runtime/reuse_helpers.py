"""Nodes with a cache or a filter, for state-machine tests, and the carrying out of their Inspects in virtual time."""

from __future__ import annotations

import numpy as np

from runtime.codecs.parcel import pack, unpack
from runtime.energy import ComputePower, RadioPower
from runtime.inference.cache import CacheConfig
from runtime.inference.cache.parcels import parcel_fingerprint
from runtime.inference.filter import FilterConfig, RelevanceModel
from runtime.inference.pictures import thumbnail
from runtime.messages import Decision, Outcome, Result, Submit, Tier, Work
from runtime.models.manifest import Manifest
from runtime.protocol.connection import Connection
from runtime.protocol.device_machine import DeviceMachine
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Computed, Event, Inspect, Inspected, Instruction, Received, Run
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.node_machine import NodeMachine
from runtime.protocol.streams import Streams
from tests.runtime.protocol_helpers import LOGITS, decision, hear_from_above, make_identity, received, sent, tiny_manifest

CACHE = CacheConfig()
LOOK_S = 0.001
"""How long looking at an input takes here."""
POWER = ComputePower(busy_watts=5.0, idle_watts=3.0)


def caching_node(cache: CacheConfig | None = CACHE, *, tier: Tier = "edge", manifest: Manifest | None = None) -> NodeMachine:
    up = Connection(None, period_s=0.1, timeout_s=100.0) if tier == "edge" else None
    node = NodeMachine(make_identity(tier), HostedModels([manifest or tiny_manifest()]), up, Downstream(None), cache=cache)
    if up is not None:
        hear_from_above(node, 0.6)
    return node


def caching_device(
    cache: CacheConfig | None = CACHE,
    *,
    filter: FilterConfig | None = None,
    relevance: RelevanceModel | None = None,
    manifest: Manifest | None = None,
    controller: bool = False,
) -> DeviceMachine:
    device = DeviceMachine(
        make_identity("device"),
        HostedModels([manifest or tiny_manifest()]),
        Connection(None, period_s=0.1, timeout_s=100.0),
        max_in_flight=100,
        decision_budget_s=0.02,
        compute_power=POWER,
        radio_power=RadioPower(slope_watts_per_byte_per_s=1e-6, base_watts=1.0),
        controller=controller,
        cache=cache,
        streams=Streams(filter, relevance) if filter is not None else None,
    )
    hear_from_above(device, 0.6)
    return device


def picture(level: int = 0) -> np.ndarray:
    return np.array([[[[level, 255 - level], [level // 2, 7]]]], dtype=np.uint8)


def ask(
    request_id: int,
    at_s: float,
    image: np.ndarray,
    given: Decision | None = None,
    *,
    tenant: str = "",
    stream: str = "",
    fresh: bool = False,
) -> Received:
    submit = Submit(request_id=request_id, model="tiny", deadline_s=1.0, decision=given, tenant=tenant, stream=stream, fresh=fresh)
    return received(submit, [image], at_s=at_s)


def work_of(
    request_id: int, at_s: float, given: Decision, stage: int, tensor: np.ndarray, *, tenant: str = "", fresh: bool = False
) -> Received:
    message = Work(request_id=request_id, decision=given, stage=stage, budget_s=1.0, tenant=tenant, fresh=fresh)
    return Received(source="down", message=message, parcel=pack([tensor], given.codec), num_bytes=100, at_s=at_s, peer=b"device")


def looked(inspect: Inspect, at_s: float) -> Inspected:
    """What carrying an Inspect out gives, LOOK_S before `at_s` begun."""
    small = thumbnail(unpack(inspect.parcel).tensors[0], inspect.thumbnail_side) if inspect.thumbnail_side else None
    return Inspected(
        request_id=inspect.request_id,
        parcel=inspect.parcel,
        started_at_s=at_s - LOOK_S,
        finished_at_s=at_s,
        at_s=at_s,
        fingerprint=parcel_fingerprint(inspect.parcel, inspect.sketcher) if inspect.digest else None,
        thumbnail=small,
    )


def settle(node: NodeMachine, event: Event) -> list[Instruction]:
    """Handle an event, and carry out the Inspects that it causes LOOK_S later."""
    out: list[Instruction] = []
    for item in node.handle(event):
        out.extend(settle(node, looked(item, event.at_s + LOOK_S)) if isinstance(item, Inspect) else [item])
    return out


def worked(run: Run, at_s: float, logits: np.ndarray = LOGITS, exit: int | None = None) -> Computed:
    """The worker's answer to a Run that ends its request, 0.1 s of work."""
    taken = run.exit if exit is None else exit
    end_s = at_s + 0.1
    return Computed(request_id=run.request_id, parcel=pack([logits]), exit=taken, started_at_s=at_s, finished_at_s=end_s, at_s=end_s)


def outcome_of(out: list[Instruction]) -> Outcome:
    (outcome,) = [message for message in sent(out, "down") if isinstance(message, Outcome)]
    return outcome


def result_of(out: list[Instruction]) -> Result:
    (result,) = [message for message in sent(out, "down") if isinstance(message, Result)]
    return result


def compute_on_device(device: DeviceMachine, request_id: int, at_s: float, image: np.ndarray, **given: str) -> Outcome:
    """A request that is computed there, answered with LOGITS."""
    (run,) = [item for item in settle(device, ask(request_id, at_s, image, decision((3, 3)), **given)) if isinstance(item, Run)]  # type: ignore[arg-type]
    return outcome_of(device.handle(worked(run, at_s + LOOK_S)))
