"""What techniques change, side by side: latency, accuracy, energy and bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.plots.style import Axes, Figure, Theme, rc_context, to_png
from experiments.stats import Estimate
from experiments.technique_effects import Effect

WIDEST_PERCENT = 150.0
"""Bars end here; what is beyond is written beside them."""
_BETTER, _WORSE = "#0072b2", "#d55e00"
"""Okabe & Ito, "Color Universal Design", 2008."""


def technique_changes(effects: Sequence[Effect], theme: Theme) -> bytes:
    """PNG with a row for each technique: on against off, intervals where there are some; blue is better, orange worse."""
    panels: tuple[tuple[str, str, bool, Callable[[Effect], Estimate | None]], ...] = (
        ("latency", "%", True, lambda effect: effect.change.latency),
        ("accuracy", "points", False, lambda effect: effect.change.accuracy),
        ("energy (modelled)", "%", True, lambda effect: effect.change.energy),
        ("bytes on the links", "%", True, lambda effect: _exact(effect.change.link_bytes)),
    )
    with rc_context(theme.rc()):
        figure = Figure(figsize=(11.5, 1.3 + 0.34 * len(effects)))
        for axes, (title, unit, less_is_better, value) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
            _panel(axes, [value(effect) for effect in effects], less_is_better, theme)
            axes.set(xlabel=f"{unit}, on against off", title=title)
        axes.set(yticks=np.arange(len(effects)), yticklabels=[effect.technique for effect in effects])
        axes.set_ylim(len(effects) - 0.4, -0.6)
        return to_png(figure)


def _panel(axes: Axes, changes: Sequence[Estimate | None], less_is_better: bool, theme: Theme) -> None:
    shown = [abs(100 * value) for change in changes if change is not None for value in (change.mean, change.low, change.high)]
    widest = min(max([*shown, 1.0]), WIDEST_PERCENT)
    for place, change in enumerate(changes):
        if change is None:
            continue
        middle, low, high = (float(np.clip(100 * value, -widest, widest)) for value in (change.mean, change.low, change.high))
        axes.barh(place, middle, height=0.62, color=_BETTER if (middle < 0) == less_is_better else _WORSE)
        if high > low:
            axes.plot([low, high], [place, place], color=theme.ink, linewidth=1.4)
        beside = (max(middle, high, 0.0), place)
        axes.annotate(f"{100 * change.mean:+.1f}", beside, (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.axvline(0, color=theme.soft, linewidth=1)
    axes.set_xlim(-1.05 * widest, 1.4 * widest)
    axes.grid(axis="y", visible=False)


def _exact(change: float | None) -> Estimate | None:
    return Estimate(mean=change, low=change, high=change) if change is not None else None
