"""One client's round at the server: which leg is due, what the last one was answered with, what it has cost.

An answer is kept until the next leg comes, so that a leg that comes twice is answered twice and computed with once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from runtime.codecs.parcel import Parcel
from runtime.messages import Leg, Round, SplitStep
from runtime.training.protocol.split_tasks import Piece, SplitDone

NOTHING = Parcel()
Reaction = Literal["compute", "again", "ignore"]


@dataclass(slots=True)
class SplitSession:
    """A client's round under way.  Seconds of `_at_s` are the server's clock."""

    round: Round
    weights: Parcel
    arrived_at_s: float
    busy: bool = True
    """The trainer has what was heard last."""
    heard: tuple[int, Piece] = (0, "weights")
    """Step and piece that came last."""
    heard_at_s: float = 0.0
    due: tuple[int, Leg] = (0, "activations")
    """What has to come next."""
    reply: SplitStep | None = None
    reply_parcel: Parcel = NOTHING
    alive_at_s: float = 0.0
    """When the device was heard last, or was given something to do."""
    sent_at_s: float = 0.0
    handed_at_s: float = 0.0
    """When the device was given its part."""
    losses: dict[int, float] = field(default_factory=dict)
    compute_s: float = 0.0
    up_bytes: int = 0
    down_bytes: int = 0
    label_bytes: int = 0
    device: dict[str, float] = field(default_factory=dict)
    """What the device measured."""

    def react(self, message: SplitStep, at_s: float, num_bytes: int) -> Reaction:
        """A leg came: compute with it, answer it again, or nothing."""
        self.up_bytes, self.alive_at_s = self.up_bytes + num_bytes, at_s
        came: tuple[int, Leg] = (message.step, message.leg)
        if came == self.heard:
            return "again" if not self.busy else "ignore"
        if self.busy or came != self.due:
            return "ignore"
        self.heard, self.heard_at_s, self.busy = came, at_s, True
        if message.loss is not None:
            self.losses[message.step] = message.loss
        if message.leg == "part":
            self.device = message.metrics
        return "compute"

    def answers(self, done: SplitDone) -> bool:
        """Whether the trainer's result is what the session waits for, and not of an earlier attempt."""
        return self.busy and (done.round, done.heard_step, done.heard) == (self.round.round, *self.heard)

    def advance(self, done: SplitDone, at_s: float) -> None:
        """The answer is there: what is due next."""
        self.busy, self.alive_at_s = False, at_s
        self.compute_s += done.compute_s
        if done.loss is not None:
            self.losses[done.step] = done.loss
        match done.piece:
            case "part":
                self.handed_at_s, self.due = at_s, (0, "activations")
            case "logits":
                self.due = (done.step, "logit_gradients")
            case "gradients":
                following = done.step + 1
                self.due = (following, "activations") if following < self.round.tau else (following, "part")
            case _:
                pass

    @property
    def waits_for_first_leg(self) -> bool:
        """Whether the device has its part, or should have, and was not heard since: nobody but the server can try again."""
        return not self.busy and self.heard == (0, "weights")

    def metrics(self, at_s: float) -> dict[str, float]:
        """What the root is told of the round; transfers on the uplink only, and the device's computing with the server's."""
        handing_s = max(0.0, self.heard_at_s - self.handed_at_s - self.device.get("dwell_s", 0.0))
        return {
            "loss": float(np.mean(list(self.losses.values()))) if self.losses else float("nan"),
            "compute_s": self.compute_s + self.device.get("compute_s", 0.0),
            "transfer_s": handing_s + self.device.get("transfer_s", 0.0),
            "joules": self.device.get("joules", 0.0),
            "dwell_s": at_s - self.arrived_at_s,
            "uplink_up_bytes": float(self.up_bytes),
            "uplink_down_bytes": float(self.down_bytes),
            "raw_bytes": float(self.label_bytes),
        }
