"""Looks that need no nodes: what each gives and costs is written down, and what was asked is too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.video.knobs import Look
from experiments.video.measure import Seen

BLANK = np.zeros((1, 4), dtype=bool)


def cells(*numbers: int) -> np.ndarray:
    """A grid of one row with these cells occupied."""
    grid = BLANK.copy()
    grid[0, list(numbers)] = True
    return grid


def seen(occupied: np.ndarray | None, joules: float) -> Seen:
    return Seen(occupied=occupied, energy_joules=joules, uplink_bytes=int(100 * joules), compute_s=joules / 10, latency_s=joules)


class Script:
    """A car that crosses four cells, one every `pace` frames; only looks at full resolution see it.

    A full look costs 4 J, a half 2 J, a quarter 1 J, and the busy region half of that.
    """

    def __init__(self, pace: int | Sequence[int]) -> None:
        self.pace = pace
        self.asked: list[tuple[Look, int]] = []

    def __call__(self, look: Look, frame: int) -> Seen:
        self.asked.append((look, frame))
        joules = 4.0 / look.scale / (2 if look.region == "busy" else 1)
        place = frame // self.pace if isinstance(self.pace, int) else self.pace[frame]
        return seen(cells(place % 4) if look.scale == 1 else BLANK, joules)
