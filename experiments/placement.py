"""Which tiers a decision uses, in words: the seven ways to place `cuts = (p, q)` on three tiers."""

from __future__ import annotations

from runtime.messages import TIERS, Decision

PLACEMENTS = ("device", "device+edge", "edge", "device+edge+cloud", "device+cloud", "edge+cloud", "cloud")
"""From all near to all far; reports keep this order."""


def placement(decision: Decision, exit_ends: tuple[int, ...]) -> str:
    """The tiers that get stages, one of `PLACEMENTS`.  `exit_ends` are the model's stages per exit."""
    p, q = decision.cuts
    bounds = (0, p, q, exit_ends[decision.exit])
    return "+".join(tier for tier, start, stop in zip(TIERS, bounds, bounds[1:], strict=False) if stop > start)
