"""What policies cost, by term, and by how much the learned one is cheaper."""

from __future__ import annotations

import numpy as np

from envs.reward import TERMS, TRAINING_TERM
from experiments.plots.style import Axes, Figure, PlotData, Theme, colour, emphasise

_TERM_COLOURS = {
    "latency": "#0072b2",
    "miss": "#d55e00",
    "error": "#e69f00",
    "energy": "#009e73",
    "uplink": "#56b4e9",
    "leakage": "#cc79a7",
    "memory": "#999999",
    TRAINING_TERM: "#f0e442",
}


def cost_by_policy(data: PlotData, theme: Theme) -> Figure | None:
    """Stacked mean cost with intervals; beside it the paired gain of the learned policy over each heuristic."""
    others = [name for name in data.policies if data.summary.policies[name].saved_by_learned is not None]
    figure = Figure(figsize=(9.6, 1.7 + 0.42 * len(data.policies)))
    panels = figure.subplots(1, 2 if others else 1, width_ratios=[1.35, 1] if others else None, squeeze=False).ravel()
    _costs(panels[0], data, theme)
    if others:
        _gains(panels[1], data, theme, others)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=7, handlelength=1.2, columnspacing=1.1)
    return figure


def cost_by_load(data: PlotData, theme: Theme) -> Figure | None:
    """Learned against the best heuristic where load was light, medium and heavy."""
    rows, comparison = data.summary.by_load, data.summary.comparison
    if not rows or comparison is None:
        return None
    figure = Figure(figsize=(9.6, 3.1))
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    places = np.arange(len(rows))
    pairs = ((comparison.learned, [row.learned_cost for row in rows]), (comparison.best_heuristic, [row.heuristic_cost for row in rows]))
    for shift, (name, costs) in zip((-0.19, 0.19), pairs, strict=True):
        left.bar(places + shift, costs, 0.36, color=colour(data, name, theme), label=name)
    labels = [f"{row.load}\n{row.arrivals_low_per_s}-{row.arrivals_high_per_s} /s" for row in rows]
    left.set(xticks=places, xticklabels=labels, ylabel="mean cost per request", title="Mean cost by load")
    left.grid(axis="x", visible=False)
    left.legend(ncols=2, loc="upper left")
    left.margins(y=0.22)
    middle = np.array([row.difference.mean for row in rows])
    spread = np.array([[row.difference.mean - row.difference.low, row.difference.high - row.difference.mean] for row in rows]).T
    right.errorbar(places, middle, yerr=spread, fmt="o", color=theme.ink, capsize=4)
    right.axhline(0, color=theme.soft, linewidth=1)
    right.set(xticks=places, xticklabels=[row.load for row in rows], ylabel="cost saved per request")
    right.set_title("Saved by learned, 95 % interval")
    right.margins(x=0.25)
    return figure


def _costs(axes: Axes, data: PlotData, theme: Theme) -> None:
    places = np.arange(len(data.policies))
    start = np.zeros(len(data.policies))
    for term in (*TERMS, TRAINING_TERM):
        part = np.array([data.summary.policies[name].cost_terms.get(term, 0.0) for name in data.policies])
        if part.any():
            gains = part < 0  # what a training job brought is no cost, and is drawn to the other side
            axes.barh(places, part, left=np.where(gains, 0.0, start), height=0.68, color=_TERM_COLOURS[term], label=term)
            start += np.where(gains, 0.0, part)
    for place, name in zip(places, data.policies, strict=True):
        policy = data.summary.policies[name]
        low, high = policy.cost_ci95
        spread = [[max(policy.cost_mean - low, 0.0)], [max(high - policy.cost_mean, 0.0)]]
        axes.errorbar([policy.cost_mean], [place], xerr=spread, color=theme.ink, capsize=3, linewidth=1.4)
        beside = (max(high, policy.cost_mean), place)
        axes.annotate(f"{policy.cost_mean:.3f}", beside, (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(yticks=places, yticklabels=data.policies, xlabel="mean cost per request", title="Cost by term, 95 % interval")
    axes.margins(x=0.16)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    emphasise(axes, data.policies, data)


def _gains(axes: Axes, data: PlotData, theme: Theme, others: list[str]) -> None:
    """Percent of each heuristic's cost that the learned policy saves: bounded by 100, however dear the heuristic is."""
    for name in others:
        saved = data.summary.policies[name].saved_by_learned
        if saved is None:
            continue
        middle, low, high = 100 * saved.mean, 100 * saved.low, 100 * saved.high
        place = data.policies.index(name)
        spread = [[middle - low], [high - middle]]
        axes.errorbar([middle], [place], xerr=spread, fmt="o", color=colour(data, name, theme), capsize=4, linewidth=1.8)
    axes.axvline(0, color=theme.soft, linewidth=1)
    axes.set(yticks=np.arange(len(data.policies)), yticklabels=[], xlabel="% of the policy's cost that learned saves")
    axes.set_title("Paired saving of learned, 95 % interval")
    axes.set_ylim(len(data.policies) - 0.5, -0.5)
