"""The seam between worlds: something that executes decisions, live or simulated."""

from __future__ import annotations

from typing import Protocol

import msgspec

from runtime.messages import Decision, Observation, Outcome


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a system says after a decision."""

    observation: Observation | None
    """The next request that needs a decision; None when the episode is over and every request has ended."""
    outcomes: tuple[Outcome, ...]
    """Requests that ended since the last step, in the order they ended, whoever decided them."""
    loss_drop: float = 0.0
    """By which the loss of the training job beside the requests fell since the last step; an episode's sum to its first minus its last."""


class System(Protocol):
    """Executes decisions for one episode after another.

    Every request of an episode has exactly one outcome by the time `Step.observation` is None.
    A failed request is an outcome; a failed system raises SystemFailure.
    """

    def reset(self, seed: int) -> Step:
        """Start an episode: the workload, links and pictures of `seed`, from empty queues."""

    def execute(self, decision: Decision) -> Step:
        """Decide the observed request this way, and wait for the next one that needs a decision."""

    def close(self) -> None:
        """Release everything; may be called twice."""
