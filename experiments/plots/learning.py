"""How the agent learned."""

from __future__ import annotations

import numpy as np

from experiments.plots.style import Figure, PlotData, Theme, colour, dash


def learning_curve(data: PlotData, theme: Theme) -> Figure | None:
    """Mean simulated cost per request over training, with the heuristics on the same episodes."""
    curve = data.learning
    if curve is None or not curve.timesteps:
        return None
    figure = Figure(figsize=(9.6, 3.8))
    axes = figure.subplots()
    steps = np.array(curve.timesteps)
    if len(curve.low) == len(curve.high) == len(steps):
        axes.fill_between(steps, curve.low, curve.high, color="#d55e00", alpha=0.18, linewidth=0)
    axes.plot(steps, curve.cost, color="#d55e00", linewidth=2.4, label="learned, while training")
    # Far above the curve a heuristic says nothing about learning and would flatten it.
    ceiling = max(curve.cost) + 1.5 * (max(curve.cost) - min(curve.cost)) + 0.05 * abs(max(curve.cost))
    unseen = []
    for name, cost in sorted(curve.baselines.items(), key=lambda item: item[1]):
        if cost > ceiling:
            unseen.append(f"{name} {cost:.2f}")
        else:
            axes.axhline(cost, color=colour(data, name, theme), linestyle=dash(data, name), linewidth=1.4, label=f"{name} {cost:.3f}")
    if unseen:
        axes.plot([], [], " ", label="off the top:\n" + "\n".join(unseen))
    axes.set(xlabel="environment steps", ylabel="mean cost per request (simulated)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.2)
    return figure
