"""The plots of a report.  Importing this needs matplotlib, the `[report]` extra; MissingExtra says so otherwise."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from experiments.plots.agreement import predicted_against_realised
from experiments.plots.cost import cost_by_load, cost_by_policy
from experiments.plots.decisions import cuts, placements
from experiments.plots.latency import latency_breakdown, latency_distribution
from experiments.plots.learning import learning_curve
from experiments.plots.style import DARK, LIGHT, Figure, PlotData, Theme, rc_context, to_png

__all__ = ["DARK", "LIGHT", "PLOTS", "Plot", "PlotData", "Theme", "draw"]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: its file name, what it is called, how to read it, and who draws it."""

    name: str
    title: str
    caption: str
    figure: Callable[[PlotData, Theme], Figure | None]
    """None when the data has nothing to show in it."""


PLOTS: tuple[Plot, ...] = (
    Plot(
        name="cost",
        title="Cost by policy",
        caption=(
            "Left: mean cost per request by term of the objective. Right: what the learned policy saves on the same requests,"
            " as a share of each heuristic's cost; an interval that crosses 0 shows no difference."
        ),
        figure=cost_by_policy,
    ),
    Plot(
        name="load",
        title="Where along the load",
        caption=(
            "The learned policy and the best heuristic by how many requests had arrived in the second before;"
            " right: what the learned one saves there, paired. Below 0 the heuristic is better."
        ),
        figure=cost_by_load,
    ),
    Plot(
        name="latency",
        title="Latency distributions",
        caption="Share of all requests answered within a time. A curve that ends below 100 % left requests without an answer.",
        figure=latency_distribution,
    ),
    Plot(
        name="breakdown",
        title="Where the time went",
        caption="Mean latency of answered requests by part. The parts tile the whole; transfers include waiting for the link.",
        figure=latency_breakdown,
    ),
    Plot(
        name="placements",
        title="What each policy decided",
        caption="Left: which tiers got stages of the network. Right: which physical form of it ran, and to which exit.",
        figure=placements,
    ),
    Plot(
        name="cuts",
        title="Where each policy cut",
        caption=(
            "Area is the share of requests cut at (p, q): stages before p run on the device, up to q on the edge, the rest in the cloud."
            " Top right is device-only, top left edge-only, bottom left cloud-only; early exits end lower on the diagonal."
        ),
        figure=cuts,
    ),
    Plot(
        name="learning",
        title="Learning curve",
        caption="Simulated mean cost per request while the agent trained, against the heuristics on held-out simulated episodes.",
        figure=learning_curve,
    ),
    Plot(
        name="predicted",
        title="Predicted against realised latency",
        caption=(
            "One dot per answered request. Left, the cost model's prediction when the decision was taken; right, the same decisions"
            " replayed in the simulator. The band is within 25 %. Requests that a daemon decided have no prediction on the left."
        ),
        figure=predicted_against_realised,
    ),
)


def draw(plot: Plot, data: PlotData, theme: Theme) -> bytes | None:
    """One plot as PNG; None when the data has nothing to show in it."""
    with rc_context(theme.rc()):
        figure = plot.figure(data, theme)
        return to_png(figure) if figure is not None else None
