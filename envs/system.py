"""The seam between worlds: something that executes decisions, live or simulated."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from runtime.messages import Decision, Observation, Outcome, TauSpec


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


class JobReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the training job beside an episode's requests came to."""

    num_rounds: int
    num_steps: int
    """Local steps of each client in these rounds."""
    initial_loss: float
    final_loss: float
    """Of the last round's weights."""

    @property
    def loss_drop(self) -> float:
        """What the rewards have a term for."""
        return self.initial_loss - self.final_loss


@runtime_checkable
class TrainingSystem(Protocol):
    """A system that may train a job beside its requests."""

    def reset(self, seed: int, *, tau: TauSpec | None = None) -> Step:
        """As `System.reset`, the job's tau following `tau`; None: decisions set it."""

    def execute(self, decision: Decision) -> Step:
        """As `System.execute`."""

    def close(self) -> None:
        """As `System.close`."""

    def job_report(self) -> JobReport | None:
        """What the job of the running, or just ended, episode has come to; None where nothing trains."""
