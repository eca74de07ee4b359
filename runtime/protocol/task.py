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
        return self.computed_at_s - self.started_at_s - self.codec_s if self.computed_at_s else 0.0

    @property
    def upstream_s(self) -> float:
        """From giving the work to the link upwards until the answer was back."""
        return self.answered_at_s - self.handed_at_s if self.answered_at_s else 0.0

    def whereabouts(self, tier: Tier) -> str:
        """Where on a node of this tier it is, for people."""
        if self.handed_at_s:
            return f"while the nodes above the {tier} had it"
        if self.started_at_s:
            return f"on the {tier}"
        return f"while it waited on the {tier}" + (" for its model" if self.wanted_at_s and not self.loaded_at_s else "")

    def span(self, at_s: float) -> Span:
        """This node's share, answering now."""
        return Span(
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
    uplink_acked: bool = False
    given: Decision | None = None
    """By the client."""
    stream: str = ""
    verdict: Verdict | None = None
    """The filter's, on a stream's frame."""
    radio_joules: float = 0.0
    """Marginal energy of what it sent and received (runtime/radio.py)."""
