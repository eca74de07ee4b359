"""Where along the load the learned policy wins: the paired comparison split by how busy the device just was."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.records import Record
from experiments.stats import paired_difference
from experiments.summary import LoadRow

WINDOW_S = 1.0
"""A request's load is the number of requests that arrived in this time before it."""
LEVELS = ("light", "medium", "heavy")
"""Terciles of the requests by their load."""


def compare_by_load(learned: Sequence[Record], heuristic: Sequence[Record]) -> tuple[LoadRow, ...]:
    """One row per third of the requests, light load first; empty when the load never varies.

    Load is a property of the request (its arrival), the same for both, so that each row stays paired.
    """
    loads = _recent_arrivals(heuristic)
    left, right = _costs(heuristic), _costs(learned)
    shared = left.keys() & right.keys() & loads.keys()
    if not shared:
        return ()
    edges = np.quantile([loads[key] for key in shared], [1 / 3, 2 / 3])
    rows = []
    for index, level in enumerate(LEVELS):
        keys = {key for key in shared if int(np.searchsorted(edges, loads[key], side="left")) == index}
        if keys:
            rows.append(_row(level, keys, loads, left, right))
    return tuple(rows) if len(rows) > 1 else ()


def _row(
    level: str,
    keys: set[tuple[int, int]],
    loads: dict[tuple[int, int], int],
    heuristic: dict[tuple[int, int], float],
    learned: dict[tuple[int, int], float],
) -> LoadRow:
    left, right = {key: heuristic[key] for key in keys}, {key: learned[key] for key in keys}
    difference = paired_difference(left, right)
    assert difference is not None
    return LoadRow(
        load=level,
        arrivals_low_per_s=min(loads[key] for key in keys),
        arrivals_high_per_s=max(loads[key] for key in keys),
        requests=len(keys),
        learned_cost=float(np.mean(list(right.values()))),
        heuristic_cost=float(np.mean(list(left.values()))),
        difference=difference,
    )


def _recent_arrivals(records: Sequence[Record]) -> dict[tuple[int, int], int]:
    """(seed, request) -> requests of that seed that arrived in the `WINDOW_S` before it."""
    by_seed: dict[int, list[Record]] = {}
    for record in records:
        by_seed.setdefault(record.seed, []).append(record)
    loads = {}
    for group in by_seed.values():
        group.sort(key=lambda record: record.arrival_s)
        arrival_s = np.array([record.arrival_s for record in group])
        before = np.arange(len(group)) - np.searchsorted(arrival_s, arrival_s - WINDOW_S)
        loads.update({record.key: int(count) for record, count in zip(group, before, strict=True)})
    return loads


def _costs(records: Sequence[Record]) -> dict[tuple[int, int], float]:
    return {record.key: record.cost for record in records}
