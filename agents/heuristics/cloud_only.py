"""All of the full model in the cloud: the raw input goes up twice."""

from __future__ import annotations

from agents.heuristics.selection import Static, full_model
from agents.policy import Policy
from envs.costs import CostModel


def cloud_only(decisions: CostModel, catalogue: CostModel) -> Policy:
    """Cuts (0, 0) of the full fp32 model."""
    return Static("cloud-only", full_model(decisions, lambda end: (0, 0), "cloud-only"))
