"""All of the full model on the edge: the raw input goes up."""

from __future__ import annotations

from agents.heuristics.selection import Static, full_model
from agents.policy import Policy
from envs.costs import CostModel


def edge_only(decisions: CostModel, catalogue: CostModel) -> Policy:
    """Cuts (0, end) of the full fp32 model."""
    return Static("edge-only", full_model(decisions, lambda end: (0, end), "edge-only"))
