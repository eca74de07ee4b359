"""What every policy is: an observation in, a decision out.  Learned ones and heuristics are interchangeable."""

from __future__ import annotations

from typing import Protocol

from runtime.errors import DrlctlError
from runtime.messages import Decision, Observation


class NoDecision(DrlctlError):
    """The policy has no decision that it can stand behind; the caller must fall back to another policy."""


class Policy(Protocol):
    """Decides one request at a time.

    Every decision is one of the cost model's that the policy was made with, and needs no tier that the
    observation calls unreachable, unless the policy is static.  After `reset(seed)` the decisions
    depend on the seed and the observations alone.
    """

    @property
    def name(self) -> str:
        """What reports and the command line call it."""

    def reset(self, seed: int) -> None:
        """Start an episode.  Only policies that draw random numbers use the seed."""

    def decide(self, observation: Observation) -> Decision:
        """Where and how the observed request runs.  Raises NoDecision when the policy cannot say."""
