"""The candidate with the least predicted cost for this request, given everything observed, queues included.

The strongest policy that looks at one request only, and what the learned policy starts from.
"""

from __future__ import annotations

from agents.heuristics.selection import Choices
from agents.policy import Policy
from envs.costs import CostModel
from envs.predictor import Predictor
from runtime.messages import Decision, Observation


class Greedy:
    """Argmin of the objective's expected cost."""

    name = "greedy"

    def __init__(self, catalogue: CostModel) -> None:
        self._choices = Choices(catalogue)
        self._predictor = Predictor(catalogue)

    def reset(self, seed: int) -> None:
        """Nothing to draw."""

    def decide(self, observation: Observation) -> Decision:
        """The reachable candidate that this request alone would be cheapest with."""
        return self._choices.least(self._predictor.predict_one(observation).cost, observation)


def greedy(decisions: CostModel, catalogue: CostModel) -> Policy:
    """Over the catalogue, as the learned policy."""
    return Greedy(catalogue)
