"""A uniformly random reachable candidate of the catalogue: the floor that any policy must clear."""

from __future__ import annotations

import numpy as np

from agents.heuristics.selection import Choices
from agents.policy import NoDecision, Policy
from envs.costs import CostModel
from runtime.messages import Decision, Observation


class RandomChoice:
    """Draws from its own generator, seeded by `reset`."""

    name = "random"

    def __init__(self, catalogue: CostModel) -> None:
        self._choices = Choices(catalogue)
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """The same seed draws the same numbers."""
        self._rng = np.random.default_rng(seed & 0xFFFFFFFF)

    def decide(self, observation: Observation) -> Decision:
        """One of the reachable candidates.  Raises NoDecision when there is none."""
        reachable = np.flatnonzero(self._choices.reachable(observation))
        if not len(reachable):
            raise NoDecision(f"no candidate is reachable for request {observation.request_id}")
        return self._choices.decisions[int(reachable[self._rng.integers(len(reachable))])]


def random_choice(decisions: CostModel, catalogue: CostModel) -> Policy:
    """Over the catalogue."""
    return RandomChoice(catalogue)
