"""The message of split training: one leg of one step, to the other side of the cut.

server ──part──► device ──activations──► server ──gradients──► device ──activations──► ... ──part──► server ──done──► device
labels that stay:               ... ──logits──► device ──logit_gradients──► server ──gradients──► ...
"""

from __future__ import annotations

from typing import Literal

import msgspec

from runtime.messages.names import complain

Leg = Literal["part", "activations", "logits", "logit_gradients", "gradients", "done"]
"""What one message of split training holds: the device's weights, what crosses the cut, or that the weights have arrived."""


class SplitStep(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Device to server or back: one leg of one training step.  Tensors float32 follow, none with `done`.

    `part` has one, the weights of the device's stages [P]; `activations` those that cross the cut, [N, ...] each, then labels
    int64 [N] unless they stay; the others what the leg before had, or its gradients, in the same order.
    """

    request_id: int
    """Of the transfer, for its Ack."""
    job: str
    client: str
    round: int
    step: int
    """From 0; `part` going up has the number of steps that were taken."""
    leg: Leg
    tau: int = 1
    """Steps of this round."""
    loss: float | None = None
    """With `logit_gradients`: the device's."""
    dwell_s: float = 0.0
    """Since the leg that this one answers came: computing, and waiting for it."""
    metrics: dict[str, float] = {}
    """With `part` going up: what the device measured."""

    def __post_init__(self) -> None:
        if self.round < 0 or not 0 <= self.step <= self.tau:
            raise ValueError(f"a step is in 0..tau of a round >= 0, got {self.step} of {self.tau} in {self.round}")
        complain(self, "dwell_s")
