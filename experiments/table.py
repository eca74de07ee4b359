"""The comparison table: for a terminal with rich, else as plain aligned text."""

from __future__ import annotations

import os
from typing import TextIO

import msgspec
from rich.console import Console
from rich.table import Table

from envs.not_modelled import left_out_notice
from experiments.job_table import HEADER, job_rows
from experiments.summary import PolicySummary, Summary
from experiments.verdict import host_notice, verdict


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """A table as text; the first column is left-aligned, the others right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    emphasised: int | None
    """Index of the learned policy's row."""


def comparison_grid(summary: Summary) -> Grid:
    """Policies by rising cost, with the columns that people compare."""
    header = (
        "policy",
        "cost",
        "95 % interval",
        "above learned",
        "p50 ms",
        "p95 ms",
        "missed",
        "failed",
        "accuracy",
        "energy mJ",
        "uplink kB",
        "decide us",
    )
    rows = tuple(_row(name, policy) for name, policy in summary.policies.items())
    names = list(summary.policies)
    return Grid(header=header, rows=rows, emphasised=names.index(summary.learned) if summary.learned in names else None)


def plain_table(grid: Grid) -> str:
    """Aligned text without colour or boxes, one line per row, as wide as it must be."""
    lines = (grid.header, *grid.rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(grid.header))]
    text = []
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        text.append("  ".join(cells))
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in text)


def print_summary(summary: Summary, stream: TextIO) -> None:
    """What is emulated, the table, and the verdict.  Colour and boxes only on a terminal wide enough for them."""
    grid = comparison_grid(summary)
    if summary.system == "simulated":
        print("SIMULATED: no live system took part", file=stream)
    for line in (*summary.emulation, *left_out_notice(summary.not_modelled), *host_notice(summary)):
        print(line, file=stream)
    console = Console(file=stream)
    if stream.isatty() and "NO_COLOR" not in os.environ and console.width >= len(plain_table(grid).splitlines()[0]) + 3 * len(grid.header):
        console.print(_rich_table(grid))
    else:
        print(plain_table(grid), file=stream)
    if rows := job_rows(summary):
        print(f"beside the requests, {summary.system}:", file=stream)
        print(plain_table(Grid(header=HEADER, rows=tuple(rows), emphasised=None)), file=stream)
    words = verdict(summary)
    print(words.headline, file=stream)
    for line in words.losses:
        print(f"  not: {line}", file=stream)
    for failure in summary.failures:
        print(f"  lost: {failure.policy}, seed {failure.seed}: {failure.error}", file=stream)


def _rich_table(grid: Grid) -> Table:
    table = Table(header_style="bold")
    for column, title in enumerate(grid.header):
        table.add_column(title, justify="left" if column == 0 else "right", no_wrap=True)
    for index, row in enumerate(grid.rows):
        table.add_row(*row, style="bold green" if index == grid.emphasised else None)
    return table


def _row(name: str, policy: PolicySummary) -> tuple[str, ...]:
    low, high = policy.cost_ci95
    above = policy.cost_above_learned
    return (
        name,
        f"{policy.cost_mean:.3f}",
        f"{low:.3f} .. {high:.3f}",
        f"{above.mean:+.3f}" if above is not None else "",
        f"{policy.latency_p50_s * 1e3:.0f}",
        f"{policy.latency_p95_s * 1e3:.0f}",
        f"{policy.miss_fraction:.1%}",
        f"{policy.failed}/{policy.requests}",
        f"{policy.accuracy:.1%}" if policy.accuracy is not None else "",
        f"{policy.energy_joules_mean * 1e3:.0f}",
        f"{policy.uplink_bytes_mean / 1e3:.2f}",
        f"{policy.decision_p50_s * 1e6:.0f}" if policy.decision_p50_s is not None else "",
    )
