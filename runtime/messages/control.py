"""Messages about nodes and links: liveness, telemetry, episodes, measurements."""

from __future__ import annotations

import msgspec

from runtime.messages.names import INF, Tier, check_request_id, complain
from runtime.messages.views import LinkView, NodeTelemetry


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Downstream to upstream, each `telemetry_period_s`: are you there, and how are you?

    With a tensor behind it, it is a probe: payload that measures the link's rate.
    """

    sequence: int
    beside: bool = False
    """From a node of the same tier, which may hand work over."""


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to a Ping: the node's telemetry, then what it knows of the nodes and links above it."""

    sequence: int
    nodes: tuple[NodeTelemetry, ...]
    links: tuple[LinkView, ...] = ()


class StartEpisode(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client to device, passed on upwards: drop what is unfinished and restart emulated links from `seed`.

    Each node answers its sender with EpisodeStarted once everything above it has.
    """

    seed: int
    starts_in_s: float
    """When the episode's time zero is; sent past the emulated delays, so that all nodes agree on it."""
    controller: str = ""
    """Where the device asks for decisions from now on; empty leaves it to its fallback."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.starts_in_s < INF:
            complain(self, "starts_in_s")


class EpisodeStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to StartEpisode."""

    seed: int


class Measure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client to a node: time stages [start, stop) of a variant, `repeats` times, as requests would run them.

    `exit` (with stop = its end) includes that exit's head.
    """

    request_id: int
    model: str
    variant: str
    start: int
    stop: int
    exit: int | None
    repeats: int

    def __post_init__(self) -> None:
        check_request_id(self, self.request_id)
        if not 1 <= self.repeats <= 10_000:
            raise ValueError(f"Measure.repeats must be in 1..10000, got {self.repeats}")


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to Measure: seconds of each repeat as the tier takes them, and as the host took them."""

    request_id: int
    tier_s: tuple[float, ...]
    host_s: tuple[float, ...]


class StatusQuery(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Anyone to a node: what are you?"""

    request_id: int


class StatusReport(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to StatusQuery; `counters` are totals since the node started."""

    request_id: int
    name: str
    tier: Tier
    pid: int
    emulated: bool
    telemetry: tuple[NodeTelemetry, ...]
    links: tuple[LinkView, ...]
    counters: dict[str, int]
    models: tuple[str, ...]
    neighbours: tuple[NodeTelemetry, ...] = ()
    """What those of its tier that it may hand work to say of themselves, as far as they are heard of."""
