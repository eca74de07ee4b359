"""What the players reported and paid, as figures and as text."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from experiments.table import Grid
from experiments.video.agreement import f1
from experiments.video.measure import Cost, cost_of
from experiments.video.play import Played


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One player over all frames."""

    name: str
    settings: tuple[str, ...]
    """Chosen for each window, in order; one where it is fixed."""
    accuracy: float
    """F1 against the golden setting."""
    holds: bool
    """Whether that is the target at least."""
    cost: Cost
    """Mean per frame of the camera, what measuring settings took included."""
    looks: int
    profiling_looks: int
    """Of these: to measure settings."""
    failed: int
    latency_p50_s: float
    latency_p95_s: float
    """Of a look."""


def row_of(played: Played, reference: np.ndarray, target: float) -> Row:
    """A player's figures; `reference` bool [N, rows, columns] is the golden report of the same frames."""
    accuracy = f1(reference, played.reports)
    latency_s = [each.latency_s for each in played.seen]
    return Row(
        name=played.name,
        settings=tuple(setting.label() for setting in played.settings),
        accuracy=accuracy,
        holds=accuracy >= target,
        cost=cost_of(played.seen, len(played.reports)),
        looks=len(played.seen),
        profiling_looks=played.num_profiling,
        failed=sum(each.occupied is None for each in played.seen),
        latency_p50_s=float(np.median(latency_s)),
        latency_p95_s=float(np.quantile(latency_s, 0.95)),
    )


HEADER = (
    "player",
    "F1 to golden",
    "holds",
    "energy mJ",
    "uplink kB",
    "compute ms",
    "looks",
    "profiling",
    "failed",
    "p50 ms",
    "p95 ms",
    "settings",
)


def grid_of(rows: Sequence[Row]) -> Grid:
    """Costs are means per frame of the camera, latencies of a look."""
    return Grid(header=HEADER, rows=tuple(_cells(row) for row in rows), emphasised=None)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.accuracy:.3f}",
        "yes" if row.holds else "no",
        f"{row.cost.energy_joules * 1e3:.1f}",
        f"{row.cost.uplink_bytes / 1e3:.1f}",
        f"{row.cost.compute_s * 1e3:.1f}",
        str(row.looks),
        str(row.profiling_looks),
        str(row.failed),
        f"{row.latency_p50_s * 1e3:.1f}",
        f"{row.latency_p95_s * 1e3:.1f}",
        "; ".join(row.settings),
    )
