"""What nodes and links report, and what of it a policy sees."""

from __future__ import annotations

import msgspec

from runtime.messages.names import INF, Tier, complain


class TenantBacklog(msgspec.Struct, frozen=True, kw_only=True):
    """What of a node's queue is one tenant's."""

    tenant: str
    num_waiting: int
    backlog_s: float
    """Expected seconds of its jobs that wait; the running one is nobody's any more."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.backlog_s < INF:
            complain(self, "backlog_s")


class NodeTelemetry(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself."""

    tier: Tier
    backlog_s: float = 0.0
    """Seconds of accepted, unfinished work on its compute queue, the rest of the running piece included."""
    num_waiting: int = 0
    memory_bytes: int = 0
    """Peak resident set of the process so far."""
    age_s: float = 0.0
    """How old this was when it was sent on: 0 from the node itself, more through a relay."""
    num_overruns: int = 0
    """Emulated computations that the host finished later than the emulated tier would have."""
    tenants: tuple[TenantBacklog, ...] = ()
    """What of the queue is whose, where the node tells tenants apart."""
    loaded: tuple[str, ...] = ()
    """Variants that are in memory there, as `model/variant`: the weights, and at least one segment."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.backlog_s < INF and 0.0 <= self.age_s < INF):
            complain(self, "backlog_s", "age_s")


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the device sees it when it must decide."""

    backlog_s: float
    num_waiting: int
    num_own: int
    """This device's unfinished requests whose decision gave that tier something to compute."""
    age_s: float
    """Seconds since the report was true; 0 for the device itself."""
    reachable: bool = True
    loaded: tuple[str, ...] = ()
    """Variants that are in memory there, as in NodeTelemetry; others are loaded, or fetched, when first needed."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.backlog_s < INF and 0.0 <= self.age_s < INF):
            complain(self, "backlog_s", "age_s")


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """A link as the device sees it: estimates from acknowledged transfers and pings."""

    rate_bytes_per_s: float
    """Estimated from the last acknowledged payload (away from the device)."""
    delay_s: float
    """Estimated one-way delay of a small message."""
    outstanding_bytes: float
    """Bytes decided to cross this link and not yet acknowledged, waiting ones included."""
    age_s: float
    """Seconds since the rate was last measured."""

    def __post_init__(self) -> None:
        if not (
            0.0 <= self.rate_bytes_per_s < INF
            and 0.0 <= self.delay_s < INF
            and 0.0 <= self.outstanding_bytes < INF
            and 0.0 <= self.age_s < INF
        ):
            complain(self, "rate_bytes_per_s", "delay_s", "outstanding_bytes", "age_s")


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A training job of which the device is a client, as it sees it: what came with the round's weights, and what it does itself."""

    num_rounds: int
    """Aggregations so far, the present round's weights being the last one's."""
    tau: int
    """Local steps of the present round."""
    num_steps: int
    """Those of them that are done: steps since the last aggregation."""
    since_s: float
    """Since the round's weights came."""
    last_round_s: float
    """What the round before took, from its weights to these; 0 in the first."""
    loss: float
    """Of the round's weights."""
    loss_drop: float
    """By which that is lower than the one of the weights before; 0 in the first round."""
    drift: float = 0.0
    """How far clients came apart in the round before, 0..1 (runtime/training/drift.py); 0 where nobody knows."""
    outstanding_bytes: float
    """Of the update on its way up, not yet acknowledged.  The uplink's outstanding bytes have them too."""
    tau_due: bool
    """Whether a round began since a decision had a tau: the next one that has decides the round to come."""

    def __post_init__(self) -> None:
        if not (0 <= self.num_steps <= self.tau and self.tau >= 1 and self.num_rounds >= 0):
            raise ValueError(f"JobView needs 0 <= num_steps <= tau, tau >= 1 and num_rounds >= 0, got {self}")
        if not 0.0 <= self.drift <= 1.0:
            raise ValueError(f"JobView.drift is in 0..1, got {self.drift}")
        if not (abs(self.loss) < INF and abs(self.loss_drop) < INF):
            raise ValueError(f"JobView.loss and loss_drop must be finite, got {self.loss} and {self.loss_drop}")
        if not (0.0 <= self.since_s < INF and 0.0 <= self.last_round_s < INF and 0.0 <= self.outstanding_bytes < INF):
            complain(self, "since_s", "last_round_s", "outstanding_bytes")


class Observation(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """All that a policy may know when it decides for one request.  The typed form; features are its arrays."""

    request_id: int
    model: str
    at_s: float
    """Seconds since the episode started on the device's monotonic clock."""
    deadline_s: float
    """Time the request has left."""
    num_in_flight: int
    """Unfinished requests of this device, without the one being decided."""
    arrival_rate_per_s: float
    """Exponentially weighted estimate, `protocol.ARRIVAL_SMOOTHING`."""
    nodes: tuple[NodeView, NodeView, NodeView]
    """device, edge, cloud"""
    links: tuple[LinkView, LinkView]
    """uplink (device to edge), wan (edge to cloud)"""
    difficulty: tuple[float, ...] = ()
    """P(wrong answer) for this very input, of every exit of every variant whose errors are predicted, in the order of the
    model's predictor (runtime/inference/difficulty.py); empty where inputs are not looked at for it."""
    job: JobView | None = None
    """What trains beside the requests; None where nothing does."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.at_s < INF and 0.0 <= self.deadline_s < INF and 0.0 <= self.arrival_rate_per_s < INF):
            complain(self, "at_s", "deadline_s", "arrival_rate_per_s")
        if not all(0.0 <= probability <= 1.0 for probability in self.difficulty):
            raise ValueError(f"Observation.difficulty holds probabilities, got {self.difficulty}")
