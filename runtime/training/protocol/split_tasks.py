"""What the two sides of a split network are asked to compute, one leg at a time, and what they answer.

         comes in              goes out                      comes in              goes out
server   weights (of all)      part                 device   part                  activations of step 0
server   activations           gradients, or logits device   gradients             activations of the next step, or part
server   logit_gradients       gradients            device   logits                logit_gradients
server   part                  update (of all)
"""

from __future__ import annotations

from typing import Literal

import msgspec

from runtime.codecs.parcel import Parcel
from runtime.messages import Leg

Piece = Leg | Literal["weights", "update"]
"""A leg on the links, or what stands at the two ends of a client's round: all weights, and the update of all."""


class SplitTask(msgspec.Struct, frozen=True, kw_only=True):
    """This has come for a client: compute what it is answered with."""

    job: str
    client: str
    round: int
    step: int
    tau: int
    piece: Piece
    parcel: Parcel


class SplitDone(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a piece, or why there is none."""

    job: str
    client: str
    round: int
    heard: Piece
    heard_step: int
    step: int
    """Of the answer."""
    piece: Piece
    parcel: Parcel = Parcel()
    parameters: bytes = b""
    """With `update`: as in a Contribution."""
    loss: float | None = None
    """Of the step, at the side that has its labels."""
    compute_s: float = 0.0
    error: str = ""


def failed(task: SplitTask, error: str) -> SplitDone:
    """The answer to a piece that could not be computed with."""
    return SplitDone(
        job=task.job,
        client=task.client,
        round=task.round,
        heard=task.piece,
        heard_step=task.step,
        step=task.step,
        piece=task.piece,
        error=error,
    )
