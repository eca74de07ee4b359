"""The levels as one table, two rows each: its training as a whole, and its inference per request."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.level_claims import CLAIMS, COUNT_TOLERANCE, PARTS, SHOWN, TIME_TOLERANCE, Finding, Part, overall
from experiments.level_measures import LevelSummary, Measures
from experiments.table import Grid

HEADER = (
    "level", "how", "offloaded", "path", "transfer", "compute", "device energy", "privacy", "WAN", "accuracy",
)  # fmt: skip
QUANTITIES = ("offloaded_bytes", "num_links", "transfer_s", "compute_s", "device_joules", "exposed", "wan_bytes")
"""In the order of the columns."""


def level_grid(summaries: Sequence[LevelSummary]) -> Grid:
    """Two rows for each level."""
    rows = []
    for one in summaries:
        rows.append(_row(f"{one.key}  {one.name}", one.trained, "training", one.training))
        rows.append(_row(" " * len(one.key) + "  per request", one.placement, "inference", one.inference))
    return Grid(header=HEADER, rows=tuple(rows), emphasised=None)


def claim_lines(findings: Sequence[Finding]) -> list[str]:
    """Each claim with what training and inference say to it, and the count at the end."""
    lines = []
    for claim in CLAIMS:
        lines.append(f"{claim.words}:")
        lines += [
            f"  {part + ':':<10} {one.sentence}" for part in PARTS for one in findings if (one.claim, one.part) == (claim.words, part)
        ]
    return [*lines, overall(findings)]


def level_legend() -> list[str]:
    """How to read table and verdicts."""
    return [
        "Two rows a level: its training job as a whole, all devices together; then one request of its inference.",
        "offloaded: bytes up from the devices; path: links in a row that they crossed; WAN: bytes both ways; device energy is MODELLED.",
        "transfer, compute: training, of the slowest client, all rounds; inference, median over requests, all tiers and links together.",
        "privacy: training, raw bytes that left their owner; inference, distance correlation of what left the device with the input",
        "(0 nothing, 1 the input itself).  accuracy: training, on the test split (level 6: mean over the devices' own networks);",
        f"inference, of the played requests.  In verdicts, changes within {TIME_TOLERANCE['training']:.0%} in training and "
        f"{TIME_TOLERANCE['inference']:.0%} at inference count as none, {COUNT_TOLERANCE:.0%} for what is counted.",
    ]


def _row(name: str, how: str, part: Part, measures: Measures) -> tuple[str, ...]:
    cells = (SHOWN[part, quantity](float(getattr(measures, quantity))) for quantity in QUANTITIES)
    return (name, how, *cells, f"{measures.accuracy:.1%}" if measures.accuracy is not None else "")
