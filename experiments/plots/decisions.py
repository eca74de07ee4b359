"""Where policies cut, and which exits and variants they took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.placement import PLACEMENTS
from experiments.plots.style import Axes, Figure, PlotData, Theme, emphasise
from experiments.simgap import by_policy
from experiments.summary import DecisionShare

_PLACEMENT_COLOURS = ("#00224e", "#2a3f6d", "#575d6d", "#7c7b78", "#a59c74", "#d2c060", "#fee838")
"""From near to far, an even walk along cividis.  Source: Nunez, Anderton, Renslow, PLOS ONE 2018."""
_EXIT_COLOURS = ("#56b4e9", "#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7")
_HATCHES = ("", "///", "...", "xx")
_PANELS_PER_ROW = 4
_AREA = 900.0
"""Of the bubble of all requests, square points."""


def placements(data: PlotData, theme: Theme) -> Figure | None:
    """Two stacked bars per policy: tiers used, and (variant, exit) used."""
    names = [name for name in data.policies if data.summary.policies[name].decisions]
    if not names:
        return None
    figure = Figure(figsize=(9.6, 2.3 + 0.36 * len(names)))
    left, right = figure.subplots(1, 2, sharey=True)
    shares = [data.summary.policies[name].decisions for name in names]
    shades = dict(zip(PLACEMENTS, _PLACEMENT_COLOURS, strict=True))
    _stack(left, shares, lambda share: share.placement, lambda key: {"color": shades.get(key, theme.soft)}, PLACEMENTS, theme)
    kinds = sorted({(share.exit, share.variant) for decisions in shares for share in decisions})
    variants = sorted({variant for _, variant in kinds})
    looks: dict[str, dict[str, Any]] = {
        f"{variant}, exit {exit}": {
            "facecolor": _EXIT_COLOURS[exit % len(_EXIT_COLOURS)],
            "hatch": _HATCHES[variants.index(variant) % len(_HATCHES)],
        }
        for exit, variant in kinds
    }
    _stack(right, shares, lambda share: f"{share.variant}, exit {share.exit}", looks.__getitem__, tuple(looks), theme)
    left.set(yticks=np.arange(len(names)), yticklabels=names, title="Tiers that got stages")
    left.invert_yaxis()
    right.set_title("Variant and exit (the last exit is the full model)")
    emphasise(left, names, data)
    return figure


def cuts(data: PlotData, theme: Theme) -> Figure | None:
    """One panel per policy: share of requests at each pair of cuts (p, q)."""
    groups = {name: [record.decision for record in rows if record.decision is not None] for name, rows in by_policy(data.records).items()}
    names = [name for name in data.policies if groups[name]]
    if not names:
        return None
    end = max(decision.cuts[1] for name in names for decision in groups[name])
    columns = min(_PANELS_PER_ROW, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(9.6, 0.5 + 2.35 * rows))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        counts = Counter(decision.cuts for decision in groups[name])
        p, q = np.array(list(counts)).T
        share = np.array(list(counts.values())) / len(groups[name])
        axes.plot([0, end], [0, end], color=theme.grid, linewidth=1, zorder=0)
        axes.scatter(p, q, s=_AREA * share, color="#d55e00" if name == data.summary.learned else "#0072b2", alpha=0.75, linewidths=0)
        axes.set_title(name)
        axes.set(xlim=(-0.9, end + 0.9), ylim=(-0.9, end + 0.9), box_aspect=1)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.supxlabel("p: stages on the device", fontsize=10)
    figure.supylabel("q: stages on device and edge", fontsize=10)
    return figure


def _stack(
    axes: Axes,
    shares: Sequence[Sequence[DecisionShare]],
    key_of: Callable[[DecisionShare], str],
    look_of: Callable[[str], dict[str, Any]],
    order: tuple[str, ...],
    theme: Theme,
) -> None:
    """Horizontal bars to 100 %, a segment per key in `order`, keys that nobody used left out."""
    places = np.arange(len(shares))
    start = np.zeros(len(shares))
    keys = {key_of(share) for decisions in shares for share in decisions}
    for key in [*order, *sorted(keys - set(order))]:
        part = np.array([100 * sum(share.fraction for share in decisions if key_of(share) == key) for decisions in shares])
        if part.any():
            axes.barh(places, part, left=start, height=0.7, edgecolor=theme.paper, linewidth=0.6, label=key or "unknown", **look_of(key))
            start += part
    axes.set(xlim=(0, 100), xlabel="% of decided requests")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8.5, handlelength=1.4, columnspacing=1.2)
