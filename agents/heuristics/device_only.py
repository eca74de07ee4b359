"""All of the full model on the device: what one has without a network."""

from __future__ import annotations

from agents.heuristics.selection import Static, full_model
from agents.policy import Policy
from envs.costs import CostModel


def device_only(decisions: CostModel, catalogue: CostModel) -> Policy:
    """Cuts (end, end) of the full fp32 model."""
    return Static("device-only", full_model(decisions, lambda end: (end, end), "device-only"))
