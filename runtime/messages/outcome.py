"""What became of a request."""

from __future__ import annotations

import msgspec

from runtime.messages.decision import Decision
from runtime.messages.names import INF, DecidedBy, Reused, Status, Tier, complain


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
    load_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Waiting until the model's segments were in memory, per tier: for room, for files from above, for loading them."""
    handover_s: float = 0.0
    """On the way between two edges and back, or in vain with one until the work was taken back."""

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
            + sum(self.load_s)
            + self.handover_s
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
    """Modelled device energy until its end: compute above idle + radio (runtime/energy.py)."""
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
    handed_over: bool = False
    """The edge's share was done by a neighbour of the device's edge; the edge's parts of the breakdown are that one's."""
    handover_bytes: tuple[int, int] = (0, 0)
    """Bytes sent from edge to edge, and back."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.latency_s < INF and 0.0 <= self.deadline_s < INF and 0.0 <= self.energy_joules < INF):
            complain(self, "latency_s", "deadline_s", "energy_joules")
