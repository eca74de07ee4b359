"""Every measured quantity against the level: training above, inference below; steps that go against the claims stand out."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.level_claims import PARTS, Finding, Part
from experiments.level_measures import LevelSummary
from experiments.plots.style import Axes, Figure, Theme, rc_context, to_png

_WITH, _AGAINST = "#0072b2", "#d55e00"
"""Okabe & Ito, "Color Universal Design", 2008."""
_PANELS: tuple[tuple[str, str, dict[Part, tuple[float, str]]], ...] = (
    ("offloaded_bytes", "offloaded", {"training": (1e6, "MB"), "inference": (1e3, "kB")}),
    ("transfer_s", "transfer", {"training": (1.0, "s"), "inference": (1e-3, "ms")}),
    ("compute_s", "compute", {"training": (1.0, "s"), "inference": (1e-3, "ms")}),
    ("device_joules", "energy (modelled)", {"training": (1.0, "J"), "inference": (1e-3, "mJ")}),
    ("exposed", "exposed", {"training": (1e6, "MB raw"), "inference": (1.0, "leakage")}),
    ("wan_bytes", "WAN", {"training": (1e6, "MB"), "inference": (1e3, "kB")}),
    ("accuracy", "accuracy", {"training": (0.01, "%"), "inference": (0.01, "%")}),
)
"""(quantity, title, unit of each part)."""


def level_bars(summaries: Sequence[LevelSummary], findings: Sequence[Finding], theme: Theme) -> bytes:
    """PNG: a panel for each quantity and part, a bar for each level; orange where it moved against its claim from the level before."""
    with rc_context(theme.rc()):
        figure = Figure(figsize=(15, 5.2))
        grid = figure.subplots(len(PARTS), len(_PANELS), squeeze=False)
        for row, part in zip(grid, PARTS, strict=True):
            for axes, (quantity, title, units) in zip(row, _PANELS, strict=True):
                against = {step.after for one in findings if (one.part, one.quantity) == (part, quantity) for step in one.breaches}
                scale, unit = units[part]
                values = [getattr(getattr(summary, part), quantity) for summary in summaries]
                _panel(axes, [summary.key for summary in summaries], [(value or 0.0) / scale for value in values], against, theme)
                axes.set(title=f"{part}: {title}" if quantity == _PANELS[0][0] else title, ylabel=unit)
        return to_png(figure)


def _panel(axes: Axes, keys: Sequence[str], values: Sequence[float], against: set[str], theme: Theme) -> None:
    axes.bar(range(len(keys)), values, width=0.7, color=[_AGAINST if key in against else _WITH for key in keys])
    axes.set_xticks(range(len(keys)), ["c" if key == "cloud" else key for key in keys])
    axes.axhline(0, color=theme.soft, linewidth=1)
    axes.set_ylim(0, 1.12 * max([*values, 1e-9]))
    axes.grid(axis="x", visible=False)
