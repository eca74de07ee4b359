"""Messages of one request, from its client to its answer."""

from __future__ import annotations

import msgspec

from runtime.messages.decision import Decision
from runtime.messages.names import INF, MAX_NAME_CHARS, DecidedBy, Reused, Status, Tier, check_request_id, check_tenant, complain


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
    with_output: bool = False
    """Send what the exit put out (a generator's picture, a classifier's logits) behind the Outcome, one tensor."""

    def __post_init__(self) -> None:
        check_request_id(self, self.request_id)
        check_tenant(self.tenant)
        if not (0.0 <= self.deadline_s < INF and 0.0 <= self.waited_s < INF):
            complain(self, "deadline_s", "waited_s")
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
    handed_over: bool = False
    """A node of the sender's tier has handed it over: it goes on upwards, never sideways again."""

    def __post_init__(self) -> None:
        check_request_id(self, self.request_id)
        check_tenant(self.tenant)
        if not 0.0 <= self.budget_s < INF:
            complain(self, "budget_s")


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Connection to downstream: your Work has arrived whole.  The sender measures the link with it."""

    request_id: int


class Span(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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
    handover_s: float = 0.0
    """Of the dwell: on the way to a neighbour of the tier and back, or in vain with one until the work was taken back."""
    handover_bytes: tuple[int, int] = (0, 0)
    """Bytes sent to that neighbour and come back; what it did is in this span's other fields."""
    handed_over: bool = False
    """Whether a neighbour computed it."""
    load_s: float = 0.0
    """Of the dwell: waiting until the segments were in memory."""

    def __post_init__(self) -> None:
        if not (
            0.0 <= self.queue_s < INF
            and 0.0 <= self.reuse_s < INF
            and 0.0 <= self.load_s < INF
            and 0.0 <= self.compute_s < INF
            and 0.0 <= self.codec_s < INF
            and 0.0 <= self.dwell_s < INF
            and 0.0 <= self.upstream_s < INF
            and 0.0 <= self.handover_s < INF
        ):
            complain(self, "queue_s", "compute_s", "codec_s", "dwell_s", "upstream_s", "reuse_s", "handover_s", "load_s")


class Result(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Connection to downstream: done.  The logits follow, one tensor."""

    request_id: int
    exit: int
    """The exit that the logits are of."""
    spans: tuple[Span, ...]
    """From the answering node's own outwards: spans[0] is its own, spans[1] its upstream's."""
    reused: Reused = "no"
    reused_at: Tier | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Connection to downstream: this request ended without a result."""

    request_id: int
    status: Status
    message: str
