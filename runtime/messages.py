"""The vocabulary: every value that crosses a process boundary, a log or a layer.  Read this first.

One loop uses all of it: telemetry > observation > (features > action) > decision > outcome > reward.
Structs are immutable and keyword-only, validate themselves when built (a `ValueError` inside
`__post_init__` becomes a located decode error), and evolve by appending fields with defaults.
Instants end in `_at_s` and belong to the monotonic clock of the node that reports them;
only durations cross hosts.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from runtime.errors import InvalidDecision, InvalidTensor

WIRE_VERSION = 1

Tier = Literal["device", "edge", "cloud"]
TIERS: tuple[Tier, Tier, Tier] = ("device", "edge", "cloud")

Status = Literal["ok", "deadline", "overload", "peer_lost", "bad_input", "internal"]
"""`ok`, or the one reason why a request failed."""

DecidedBy = Literal["controller", "fallback", "client", "nobody"]

Reused = Literal["no", "cache-exact", "cache-similar", "filter-unchanged", "filter-irrelevant"]
"""`no`: computed for this request.  Else why nothing was: an equal or a similar input's answer was known, or the frame
of a stream had not changed or showed nothing of interest."""

MAX_NAME_CHARS = 128
_INF = float("inf")  # chained comparisons with it refuse NaN too, and cost a tenth of math.isfinite in a loop


def _complain(owner: object, *names: str) -> None:
    """Raise ValueError for the first of these fields that is not finite and >= 0."""
    for name in names:
        value = getattr(owner, name)
        if not 0.0 <= value < _INF:
            raise ValueError(f"{type(owner).__name__}.{name} must be finite and >= 0, got {value!r}")


def _check_tenant(tenant: str) -> None:
    if len(tenant) > MAX_NAME_CHARS:
        raise ValueError(f"a tenant's name has at most {MAX_NAME_CHARS} characters, got {len(tenant)}")


# ---------------------------------------------------------------- decisions


class Decision(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Where and how one request runs: stages [0,p) on the device, [p,q) on the edge, [q,end) in the cloud.

    `cuts` is (p, q) with 0 <= p <= q <= end, `end` being the number of stages that `exit` needs.
    Raises InvalidDecision for cuts that no model could have; `Manifest.check` does the rest.
    """

    model: str
    variant: str
    cuts: tuple[int, int]
    exit: int
    """Index of the exit branch; the last one is the full model."""
    early_exit: bool = False
    """Leave at the first exit up to `exit` that is confident: normalised entropy under the variant's calibrated threshold."""
    codec: str = "identity"
    """How tensors are written on the links (runtime/codecs)."""
    tau: int | None = None
    """Local steps between two aggregations, where a training job runs beside; None leaves it alone."""

    def __post_init__(self) -> None:
        p, q = self.cuts
        if not 0 <= p <= q:
            raise InvalidDecision(f"cuts must satisfy 0 <= p <= q, got p={p}, q={q}")
        if self.exit < 0:
            raise InvalidDecision(f"exit must be >= 0, got {self.exit}")
        if len(self.model) > MAX_NAME_CHARS or len(self.variant) > MAX_NAME_CHARS or len(self.codec) > MAX_NAME_CHARS:
            raise InvalidDecision(f"model, variant and codec names are at most {MAX_NAME_CHARS} characters long")
        if self.tau is not None and self.tau < 1:
            raise InvalidDecision(f"tau must be >= 1, got {self.tau}")

    def label(self) -> str:
        """Short text for people: `int8 x1 d2-e5`; `x<1` may leave earlier, a codec other than identity comes last."""
        p, q = self.cuts
        early, codec = "<" if self.early_exit else "", "" if self.codec == "identity" else f" {self.codec}"
        return f"{self.variant} x{early}{self.exit} d{p}-e{q}{codec}"


# ---------------------------------------------------------------- what nodes and links report


class TenantBacklog(msgspec.Struct, frozen=True, kw_only=True):
    """What of a node's queue is one tenant's."""

    tenant: str
    num_waiting: int
    backlog_s: float
    """Expected seconds of its jobs that wait; the running one is nobody's any more."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.backlog_s < _INF:
            _complain(self, "backlog_s")


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

    def __post_init__(self) -> None:
        if not (0.0 <= self.backlog_s < _INF and 0.0 <= self.age_s < _INF):
            _complain(self, "backlog_s", "age_s")


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the device sees it when it must decide."""

    backlog_s: float
    num_waiting: int
    num_own: int
    """This device's unfinished requests whose decision gave that tier something to compute."""
    age_s: float
    """Seconds since the report was true; 0 for the device itself."""
    reachable: bool = True

    def __post_init__(self) -> None:
        if not (0.0 <= self.backlog_s < _INF and 0.0 <= self.age_s < _INF):
            _complain(self, "backlog_s", "age_s")


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
            0.0 <= self.rate_bytes_per_s < _INF
            and 0.0 <= self.delay_s < _INF
            and 0.0 <= self.outstanding_bytes < _INF
            and 0.0 <= self.age_s < _INF
        ):
            _complain(self, "rate_bytes_per_s", "delay_s", "outstanding_bytes", "age_s")


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

    def __post_init__(self) -> None:
        if not (0.0 <= self.at_s < _INF and 0.0 <= self.deadline_s < _INF and 0.0 <= self.arrival_rate_per_s < _INF):
            _complain(self, "at_s", "deadline_s", "arrival_rate_per_s")


# ---------------------------------------------------------------- what became of a request


class Breakdown(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request's time went.  The parts tile the whole: `total_s()` is the latency."""

    client_s: float = 0.0
    """From the intended arrival to the device node's hands, and from its answer to the client's."""
    preprocess_s: float = 0.0
    """Checking the input, before a decision is asked for."""
    decision_s: float = 0.0
    """Asking the controller and hearing from it (or from the fallback)."""
    queue_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Waiting for a compute worker, per tier."""
    compute_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    codec_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Decoding what came over a link and encoding what goes over one, per tier."""
    serialise_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """From the end of compute until the message was given to the link, and handling of what came back, per tier."""
    transfer_s: tuple[float, float] = (0.0, 0.0)
    """On the uplink and on the wan, there and back, waiting for the link included."""
    postprocess_s: float = 0.0
    """From the logits to the outcome, on the device."""
    reuse_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Looking at the input, to see whether an answer is known already, per tier; waiting for that included."""

    def total_s(self) -> float:
        """Sum of all parts, seconds."""
        return (
            self.client_s
            + self.preprocess_s
            + self.decision_s
            + sum(self.queue_s)
            + sum(self.compute_s)
            + sum(self.codec_s)
            + sum(self.serialise_s)
            + sum(self.transfer_s)
            + self.postprocess_s
            + sum(self.reuse_s)
        )


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What happened to one request.  Failed requests have one too: `status` says why."""

    request_id: int
    status: Status
    message: str = ""
    """For people, when the status is not `ok`."""
    decision: Decision | None = None
    decided_by: DecidedBy = "nobody"
    latency_s: float = 0.0
    """From the intended arrival until the client knew; a failed request's time until it was told so."""
    deadline_s: float = 0.0
    breakdown: Breakdown = Breakdown()
    exit: int | None = None
    """The exit that answered; below the decision's when it left early."""
    prediction: int | None = None
    confidence: float | None = None
    """Softmax probability of the prediction."""
    correct: bool | None = None
    """Known only to whoever holds the label."""
    energy_joules: float = 0.0
    """Modelled device energy: compute above idle + radio (runtime/energy.py)."""
    link_bytes: tuple[int, int] = (0, 0)
    """Bytes sent up the uplink and the wan, frames and headers included."""
    down_bytes: tuple[int, int] = (0, 0)
    """Bytes sent back down the uplink and the wan."""
    leakage: float = 0.0
    """Privacy: what left the device. 1 raw input, 0 nothing, between: measured for that cut (Profile)."""
    memory_bytes: tuple[int, int, int] = (0, 0, 0)
    """Peak resident set per tier as last reported."""
    reused: Reused = "no"
    """Whether the answer was known already.  A `filter-irrelevant` one has no prediction: there is nothing of interest."""
    reused_at: Tier | None = None
    """The tier that knew it."""
    tenant: str = ""
    """On whose behalf it was submitted."""
    batch: tuple[int, int, int] = (0, 0, 0)
    """Requests that were computed together with it, itself included, per tier; 0 where nothing was computed."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.latency_s < _INF and 0.0 <= self.deadline_s < _INF and 0.0 <= self.energy_joules < _INF):
            _complain(self, "latency_s", "deadline_s", "energy_joules")


# ---------------------------------------------------------------- messages on the wire


DType = Literal["float32", "float16", "uint8", "int8", "int32", "int64"]


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and dtype of one tensor; its raw bytes follow as a frame of their own."""

    shape: tuple[int, ...]
    dtype: DType

    def __post_init__(self) -> None:
        if len(self.shape) > 8 or any(n < 0 for n in self.shape):
            raise InvalidTensor(f"a shape has at most 8 dimensions, none negative, got {self.shape}")


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client to device: please run this.  One tensor follows, the raw input."""

    request_id: int
    model: str
    deadline_s: float
    decision: Decision | None = None
    """Set: the client decides. None: the device asks its controller."""
    waited_s: float = 0.0
    """How long ago the request was meant to arrive (open-loop clients may lag)."""
    tenant: str = ""
    """On whose behalf (runtime/inference/tenancy.py); empty for the nodes' first tenant."""
    stream: str = ""
    """Name of the camera or other stream that the input is the next frame of; empty for none."""
    fresh: bool = False
    """Compute this one: answer it from no cache or filter, and remember nothing of it, on any node."""

    def __post_init__(self) -> None:
        _check_tenant(self.tenant)
        if not (0.0 <= self.deadline_s < _INF and 0.0 <= self.waited_s < _INF):
            _complain(self, "deadline_s", "waited_s")
        if len(self.stream) > MAX_NAME_CHARS:
            raise ValueError(f"Submit.stream is at most {MAX_NAME_CHARS} characters long")


class Decided(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Controller to device: the answer to an Observation."""

    request_id: int
    decision: Decision
    decided_by: DecidedBy = "controller"


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Controller to device: no decision will come for this observation; use your fallback."""

    request_id: int
    message: str


class Work(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Downstream to upstream node: go on with this request from stage `stage`.  The tensors of that cut follow."""

    request_id: int
    decision: Decision
    stage: int
    budget_s: float
    """Time the request has left."""
    tenant: str = ""
    """On whose behalf, as submitted."""
    fresh: bool = False
    """As in Submit."""

    def __post_init__(self) -> None:
        _check_tenant(self.tenant)
        if not 0.0 <= self.budget_s < _INF:
            _complain(self, "budget_s")


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Upstream to downstream: your Work has arrived whole.  The sender measures the link with it."""

    request_id: int


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One node's share of a request, durations only; `dwell_s` is from the Work's arrival to the answer's leaving."""

    queue_s: float = 0.0
    compute_s: float = 0.0
    codec_s: float = 0.0
    dwell_s: float = 0.0
    upstream_s: float = 0.0
    """Of the dwell: from giving the work to the link upwards until the answer was back."""
    sent_bytes: int = 0
    """Bytes it sent further up for this request."""
    returned_bytes: int = 0
    """Bytes that came back down to it for this request."""
    reuse_s: float = 0.0
    """Of the dwell: looking at the input, to see whether its answer is known already."""
    batch: int = 0
    """Requests that were computed together here, this one included; 0 when nothing was computed."""

    def __post_init__(self) -> None:
        if not (
            0.0 <= self.queue_s < _INF
            and 0.0 <= self.reuse_s < _INF
            and 0.0 <= self.compute_s < _INF
            and 0.0 <= self.codec_s < _INF
            and 0.0 <= self.dwell_s < _INF
            and 0.0 <= self.upstream_s < _INF
        ):
            _complain(self, "queue_s", "compute_s", "codec_s", "dwell_s", "upstream_s", "reuse_s")


class Result(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Upstream to downstream: done.  The logits follow, one tensor."""

    request_id: int
    exit: int
    """The exit that the logits are of."""
    spans: tuple[Span, ...]
    """From the answering node's own outwards: spans[0] is its own, spans[1] its upstream's."""
    reused: Reused = "no"
    reused_at: Tier | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Upstream to downstream: this request ended without a result."""

    request_id: int
    status: Status
    message: str


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Downstream to upstream, each `telemetry_period_s`: are you there, and how are you?

    With a tensor behind it, it is a probe: payload that measures the link's rate.
    """

    sequence: int


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
        if not 0.0 <= self.starts_in_s < _INF:
            _complain(self, "starts_in_s")


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


Message = (
    Submit
    | Observation
    | Decided
    | Refused
    | Work
    | Ack
    | Result
    | Failure
    | Outcome
    | Ping
    | Pong
    | StartEpisode
    | EpisodeStarted
    | Measure
    | Measured
    | StatusQuery
    | StatusReport
)
