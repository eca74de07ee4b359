"""A simulated request's end as the typed struct, with its time taken apart as the live device takes it apart.

Of a request that failed, the device knows its own share and how long it waited for what lies above it.
"""

from __future__ import annotations

from envs.simulation.rows import Reuse, Row
from envs.simulation.setup import Setup
from envs.simulation.world import World
from envs.ways import codec_seconds
from runtime.energy import request_energy_joules
from runtime.messages import Breakdown, Decision, Outcome, Reused, Tier
from runtime.profile import Profile


class Way:
    """The numbers of one request, named."""

    def __init__(self, world: World, entry: int) -> None:
        self._column = world.requests.table[:, entry].tolist()

    def __getattr__(self, name: str) -> float:
        value: float = self._column[getattr(Row, name)]
        return value


def outcome_of(world: World, profile: Profile, entry: int, request_id: int, decision: Decision, exit: int) -> Outcome:
    """The outcome of one request that has ended."""
    way, setup = Way(world, entry), world.setup
    latency_s = way.end_s - way.arrival_s
    if way.finish_s < 0:  # refused
        message = f"{setup.max_in_flight} requests are in flight"
        return Outcome(
            request_id=request_id, status="overload", message=message, latency_s=latency_s, deadline_s=setup.deadline_s,
            breakdown=Breakdown(client_s=latency_s), memory_bytes=_memory_bytes(profile),
        )  # fmt: skip
    answered, handed = way.finish_s == way.end_s, way.unsent_bytes < way.uplink_bytes
    latency_s = latency_s if answered else setup.deadline_s
    computed_s = max(0.0, min(way.device_end_s, way.expires_s) - way.device_start_s)
    reused = int(world.requests.reused[entry]) if answered else Reuse.none  # else the device never heard of it
    up, wan = int(way.uplink_bytes) * handed, int(way.wan_bytes) * (answered and reused != Reuse.edge_cache)
    topology, down = setup.scenario.topology, int(setup.result_bytes) * answered
    wrong, decided = bool(world.requests.wrong[entry]), reused != Reuse.device_filter
    busy_s, coding_s = computed_s + setup.look_s, codec_seconds(profile, decision, exit)
    return Outcome(
        request_id=request_id,
        status="ok" if answered else "deadline",
        message="" if answered else _whereabouts(way, handed),
        decision=decision if decided else None,
        decided_by="controller" if decided else "nobody",
        latency_s=latency_s,
        deadline_s=setup.deadline_s,
        breakdown=_breakdown(way, setup, coding_s, reused == Reuse.edge_cache)
        if answered
        else _broken_off(way, setup, coding_s[0], latency_s, handed),
        exit=exit if answered else None,
        correct=not wrong if answered else None,
        energy_joules=request_energy_joules(topology.compute_power, topology.radio_power, busy_s, up, way.sending_s, down * (up > 0)),
        link_bytes=(up, wan),
        down_bytes=(down * (up > 0), down * (wan > 0)),
        leakage=profile.variants[decision.variant].leakage[decision.cuts[0]] if handed else 0.0,
        memory_bytes=_memory_bytes(profile),
        reused=_REUSED[reused],
        reused_at=_REUSED_AT[reused],
    )


_REUSED: tuple[Reused, ...] = ("no", "cache-exact", "cache-exact", "filter-unchanged")
_REUSED_AT: tuple[Tier | None, ...] = (None, "device", "edge", "device")
"""By Reuse."""


def _memory_bytes(profile: Profile) -> tuple[int, int, int]:
    device, edge, cloud = (profile.memory_bytes.get(tier, 0) for tier in ("device", "edge", "cloud"))
    return device, edge, cloud


def _whereabouts(way: Way, handed: bool) -> str:
    if handed:
        return "deadline passed while the nodes above the device had it"
    return "deadline passed on the device" if way.device_start_s < way.expires_s else "deadline passed while it waited on the device"


def _breakdown(way: Way, setup: Setup, coding_s: tuple[float, float, float], edge_knew: bool) -> Breakdown:
    """Of an answered request.  Overheads lie half before the hand-over that they belong to, half after the result."""
    base_half_s = setup.base_s / 2
    queue_s = [max(0.0, way.device_start_s - way.arrival_s - base_half_s - setup.look_s), 0.0, 0.0]
    compute_s = [way.device_end_s - way.device_start_s, 0.0, 0.0]
    serialise_s, transfer_s = [0.0, 0.0, 0.0], [0.0, 0.0]
    if way.uplink_bytes > 0:
        serialise_s[0] = 2 * setup.uplink_half_s
        back_s = way.finish_s - base_half_s - setup.uplink_half_s - way.down_at_s
        transfer_s[0] = way.edge_at_s - way.uplink_at_s + back_s
    edge_look_s = setup.edge_look_s(way.uplink_bytes) if way.uplink_bytes > 0 else 0.0
    if way.on_edge and not edge_knew:
        queue_s[1], compute_s[1] = max(0.0, way.edge_start_s - way.edge_at_s - edge_look_s), way.edge_end_s - way.edge_start_s
    if way.goes_on and not edge_knew:
        serialise_s[1] = 2 * setup.wan_half_s
        transfer_s[1] = way.cloud_at_s - way.wan_at_s + way.down_at_s - setup.wan_half_s - way.cloud_end_s
        queue_s[2], compute_s[2] = max(0.0, way.cloud_start_s - way.cloud_at_s), way.cloud_end_s - way.cloud_start_s
    codec_s = [min(seconds, busy_s) for seconds, busy_s in zip(coding_s, compute_s, strict=True)]
    return Breakdown(
        preprocess_s=base_half_s,
        queue_s=(queue_s[0], queue_s[1], queue_s[2]),
        compute_s=(compute_s[0] - codec_s[0], compute_s[1] - codec_s[1], compute_s[2] - codec_s[2]),
        codec_s=(codec_s[0], codec_s[1], codec_s[2]),
        serialise_s=(serialise_s[0], serialise_s[1], serialise_s[2]),
        transfer_s=(transfer_s[0], transfer_s[1]),
        postprocess_s=base_half_s,
        reuse_s=(setup.look_s, edge_look_s, 0.0),
    )


def _broken_off(way: Way, setup: Setup, encoding_s: float, latency_s: float, handed: bool) -> Breakdown:
    """Of a request that failed after `latency_s`: its parts reach as far as it came, the device's encoding being the last that it does."""
    ends_s = (
        way.arrival_s + setup.base_s / 2,
        way.arrival_s + setup.base_s / 2 + setup.look_s,
        way.device_start_s,
        way.device_end_s,
        way.uplink_at_s if way.uplink_bytes > 0 else way.device_end_s,
    )
    parts, reached_s = [], way.arrival_s
    for end_s in ends_s:
        upto_s = min(max(end_s, reached_s), way.end_s)
        parts.append(upto_s - reached_s)
        reached_s = upto_s
    preprocess_s, reuse_s, queue_s, busy_s, serialise_s = parts
    compute_s = min(busy_s, max(0.0, way.device_end_s - way.device_start_s - encoding_s))
    rest_s = max(0.0, latency_s - sum(parts))
    return Breakdown(
        preprocess_s=preprocess_s,
        queue_s=(queue_s, 0.0, 0.0),
        compute_s=(compute_s, 0.0, 0.0),
        codec_s=(busy_s - compute_s, 0.0, 0.0),
        serialise_s=(serialise_s, 0.0, 0.0),
        transfer_s=(rest_s if handed else 0.0, 0.0),
        postprocess_s=0.0 if handed else rest_s,
        reuse_s=(reuse_s, 0.0, 0.0),
    )
