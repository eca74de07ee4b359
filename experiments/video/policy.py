"""Which setting to use: the cheapest whose measured accuracy holds the target.

Source: Jiang et al., "Chameleon", SIGCOMM 2018: the profile is renewed every window on its first frames, and for most
windows among the k settings only that were best last time (temporal persistence of the top-k configurations).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from experiments.video.knobs import GOLDEN, Setting
from experiments.video.measure import CostName, Measured


class Reprofiling(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be held at which cost, and how often it is measured anew."""

    target: float = 0.9
    """Accuracy, 0..1."""
    cost: CostName = "energy"
    window: int = 12
    """Frames between two profiles."""
    calibration: int = 4
    """The first of them, on which the golden setting and the candidates are all run."""
    num_kept: int = 3
    """Candidates that are kept from one window to the next: k."""
    full_every: int = 4
    """Every so many windows all settings are candidates."""

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ValueError(f"a target accuracy lies in (0, 1], got {self.target}")
        if not 1 <= self.calibration < self.window or min(self.num_kept, self.full_every) < 1:
            raise ValueError(f"windows need 1 <= calibration < window, and at least 1 kept setting and window, got {self}")

    def windows(self, num_frames: int) -> Iterator[range]:
        """The frames of each window, the last one perhaps short."""
        return (range(start, min(start + self.window, num_frames)) for start in range(0, num_frames, self.window))


def cheapest(measured: Sequence[Measured], target: float, cost: CostName) -> Setting:
    """The one of least cost that holds the target, of equals the more accurate; the golden one when none does."""
    holding = [each for each in measured if each.accuracy >= target]
    return min(holding, key=lambda each: (each.cost.by(cost), -each.accuracy)).setting if holding else GOLDEN


def most_promising(measured: Sequence[Measured], policy: Reprofiling) -> tuple[Setting, ...]:
    """The k to keep: those that hold the target by rising cost, then the others by falling accuracy."""

    def rank(each: Measured) -> tuple[bool, float, float]:
        holds, cost = each.accuracy >= policy.target, each.cost.by(policy.cost)
        return (not holds, *((cost, -each.accuracy) if holds else (-each.accuracy, cost)))

    return tuple(each.setting for each in sorted(measured, key=rank)[: policy.num_kept])
