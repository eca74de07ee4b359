"""One request's state at one node, and the clock readings its breakdown is made of."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.codecs.parcel import Parcel
from runtime.inference.cache import Fingerprint, Question
from runtime.inference.filter import Verdict
from runtime.messages import DecidedBy, Decision, Observation, Reused, Span, Tier
from runtime.models.pieces import Piece

NOTHING = Parcel()


@dataclass(slots=True)
class Handover:
    """That a request was handed to a neighbour, and what came of it.  Instants are the clock of the node that did."""

    neighbour: bytes
    begun_at_s: float
    sent_bytes: int
    ended_at_s: float = 0.0
    """When its answer came, or the work was taken back; 0 while it has it."""
    returned_bytes: int = 0
    span: Span | None = None
    """What the neighbour did; None when it was taken back."""

    @property
    def link_s(self) -> float:
        """On the way there and back, or in vain."""
        return max(0.0, self.ended_at_s - self.begun_at_s - (self.span.dwell_s if self.span is not None else 0.0))


@dataclass(slots=True)
class Task:
    """A request that this node has accepted and not answered.  Instants are the node's own clock."""

    request_id: int
    peer: bytes
    arrived_at_s: float
    expires_at_s: float
    parcel: Parcel = NOTHING
    decision: Decision | None = None
    started_at_s: float = 0.0
    """When compute began here; 0 when it has not."""
    rows: int = 1
    """Requests that it began with, itself included."""
    computed_at_s: float = 0.0
    codec_s: float = 0.0
    """Of the time between: decoding and encoding."""
    handed_at_s: float = 0.0
    """When the work was given to the link upwards; 0 when it was not."""
    answered_at_s: float = 0.0
    """When the answer came from above."""
    ready_at_s: float = 0.0
    """When it could first have computed here: its arrival, or on the device its decision."""
    sent_bytes: int = 0
    returned_bytes: int = 0
    sending_s: float = 0.0
    tenant: str = ""
    batch: int = 0
    """Requests it was computed together with here, itself included; 0 when nothing was computed."""
    upstream_spans: tuple[Span, ...] = ()
    fresh: bool = False
    """Nothing may be reused for it, or of it."""
    inspected_at_s: float = 0.0
    """When its input had been looked at; 0 when it was not."""
    inspect_s: float = 0.0
    """How long that took by itself."""
    fingerprint: Fingerprint | None = None
    question: Question | None = None
    """What was looked up here; None when nothing was."""
    reused: Reused = "no"
    reused_at: Tier | None = None
    pieces: tuple[Piece, ...] = ()
    """What is in memory for it and must stay there; empty before that, after computing, and where all is there for good."""
    wanted_at_s: float = 0.0
    """When it began to wait for them; 0 when they were there."""
    loaded_at_s: float = 0.0
    """When they were."""
    handed_over: bool = False
    """It came from a neighbour, and is never handed to another."""
    handover: Handover | None = None
    """Set when it was handed to a neighbour, which happens once at most."""

    @property
    def beside(self) -> bool:
        """Whether a neighbour has it now."""
        return self.handover is not None and not self.handover.ended_at_s

    @property
    def reuse_s(self) -> float:
        """Looking at the input, waiting for that included."""
        return self.inspected_at_s - self.arrived_at_s if self.inspected_at_s else 0.0

    @property
    def load_s(self) -> float:
        """Waiting until its pieces were in memory.  Host time: an emulated tier fetches over its links, but loads as the host does."""
        return self.loaded_at_s - self.wanted_at_s if self.loaded_at_s else 0.0

    @property
    def queue_s(self) -> float:
        """Waiting for the worker."""
        return max(0.0, self.started_at_s - self.ready_at_s) if self.started_at_s else 0.0

    @property
    def compute_s(self) -> float:
        """Computing, emulated slowness included."""
        return max(0.0, self.computed_at_s - self.started_at_s - self.codec_s) if self.computed_at_s else 0.0

    @property
    def upstream_s(self) -> float:
        """From giving the work to the link upwards until the answer was back."""
        return self.answered_at_s - self.handed_at_s if self.answered_at_s else 0.0

    def whereabouts(self, tier: Tier) -> str:
        """Where on a node of this tier it is, for people."""
        if self.beside:
            return f"while a neighbour of the {tier} had it"
        if self.handed_at_s:
            return f"while the nodes above the {tier} had it"
        if self.started_at_s:
            return f"on the {tier}"
        return f"while it waited on the {tier}" + (" for its model" if self.wanted_at_s and not self.loaded_at_s else "")

    def span(self, at_s: float) -> Span:
        """This node's share, answering now; with it what a neighbour did in its place."""
        own = Span(
            queue_s=self.queue_s,
            compute_s=self.compute_s,
            codec_s=self.codec_s,
            dwell_s=at_s - self.arrived_at_s,
            upstream_s=self.upstream_s,
            sent_bytes=self.sent_bytes,
            returned_bytes=self.returned_bytes,
            reuse_s=self.reuse_s,
            batch=self.batch,
            load_s=self.load_s,
        )
        return own if self.handover is None else joined(own, self.handover)


def joined(own: Span, handover: Handover) -> Span:
    """One tier's share of a request that two of its nodes had; the parts still tile the first one's dwell."""
    theirs = handover.span if handover.span is not None else Span()
    return Span(
        queue_s=own.queue_s + theirs.queue_s,
        compute_s=own.compute_s + theirs.compute_s,
        codec_s=own.codec_s + theirs.codec_s,
        dwell_s=own.dwell_s,
        upstream_s=own.upstream_s + theirs.upstream_s,
        sent_bytes=own.sent_bytes + theirs.sent_bytes,
        returned_bytes=own.returned_bytes + theirs.returned_bytes,
        reuse_s=own.reuse_s + theirs.reuse_s,
        batch=own.batch + theirs.batch,  # one of them is 0
        load_s=own.load_s + theirs.load_s,
        handover_s=handover.link_s,
        handover_bytes=(handover.sent_bytes, handover.returned_bytes),
        handed_over=handover.span is not None,
    )


@dataclass(slots=True)
class DeviceTask(Task):
    """A request at the device: also where it came from and how it was decided."""

    model: str = ""
    waited_s: float = 0.0
    """How late it was when it arrived here."""
    deadline_s: float = 0.0
    observation: Observation | None = None
    """Set while a decision is awaited."""
    asked_at_s: float = 0.0
    decided_at_s: float = 0.0
    decided_by: DecidedBy = "nobody"
    exit: int | None = None
    """The exit that answered."""
    uplink_bytes: int = 0
    """Payload it will send up, as far as known; 0 when it stays."""
    wan_bytes: int = 0
    computes_on: tuple[bool, bool, bool] = (False, False, False)
    """The tiers that its decision gives something to compute."""
    given: Decision | None = None
    """By the client."""
    with_output: bool = False
    """The client wants what the exit put out, not only what it means."""
    stream: str = ""
    verdict: Verdict | None = None
    """The filter's, on a stream's frame."""
    difficulty: tuple[float, ...] = ()
    """As in Observation."""
    radio_joules: float = 0.0
    """Marginal energy of what it sent and received (runtime/radio.py)."""
