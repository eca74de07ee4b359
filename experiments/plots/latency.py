"""How long requests took, and where that time went."""

from __future__ import annotations

import numpy as np

from experiments.plots.style import Figure, PlotData, Theme, colour, dash, emphasise, plain_log
from experiments.simgap import by_policy

_GROUPS = (
    ("decision", ("decision",), "#cc79a7"),
    ("queue device", ("queue device",), "#7f2a00"),
    ("queue edge", ("queue edge",), "#d55e00"),
    ("queue cloud", ("queue cloud",), "#f2a36b"),
    ("compute device", ("compute device",), "#003a5c"),
    ("compute edge", ("compute edge",), "#0072b2"),
    ("compute cloud", ("compute cloud",), "#7fbfe6"),
    ("codec", ("codec device", "codec edge", "codec cloud"), "#f0e442"),
    ("uplink", ("transfer uplink",), "#009e73"),
    ("wan", ("transfer wan",), "#7fd1b9"),
    ("between edges", ("handover",), "#004d3a"),
    (
        "rest",
        (
            *("client", "preprocess", "postprocess"),
            *(f"{part} {tier}" for part in ("reuse", "codec", "serialise") for tier in ("device", "edge", "cloud")),
        ),
        "#999999",
    ),
)


def latency_distribution(data: PlotData, theme: Theme) -> Figure | None:
    """Share of requests answered within a time; a curve that ends below 100 % has requests without an answer."""
    figure = Figure(figsize=(9.6, 4.2))
    axes = figure.subplots()
    groups = by_policy(data.records)
    deadlines_s = sorted({record.deadline_s for record in data.records if record.deadline_s > 0})
    for name in reversed(data.policies):
        answered_ms = np.sort([1e3 * record.latency_s for record in groups[name] if not record.failed])
        if not len(answered_ms):
            axes.plot([], [], color=colour(data, name, theme), linestyle=dash(data, name), label=f"{name} (none answered)")
            continue
        share = 100 * np.arange(1, len(answered_ms) + 1) / len(groups[name])
        width = 2.6 if name == data.summary.learned else 1.5
        shade = colour(data, name, theme)
        axes.step(answered_ms, share, where="post", color=shade, linestyle=dash(data, name), linewidth=width, label=name)
        axes.plot(answered_ms[-1], share[-1], ".", color=shade)
    if len(deadlines_s) == 1:
        axes.axvline(1e3 * deadlines_s[0], color=theme.soft, linewidth=1)
        place = (1e3 * deadlines_s[0], 1.0)
        axes.annotate("deadline", place, (0, 3), ("data", "axes fraction"), "offset points", color=theme.soft, ha="center", fontsize=9)
    axes.set_xscale("log")
    plain_log(axes.xaxis)
    axes.set(xlabel="latency, ms (log scale)", ylabel="% of all requests answered within", ylim=(0, 101))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.2)
    return figure


def latency_breakdown(data: PlotData, theme: Theme) -> Figure | None:
    """Mean time of answered requests by part; the parts tile the whole."""
    names = [name for name in data.policies if data.summary.policies[name].latency_parts_s]
    if not names:
        return None
    figure = Figure(figsize=(9.6, 1.5 + 0.42 * len(names)))
    axes = figure.subplots()
    places = np.arange(len(names))
    start = np.zeros(len(names))
    for label, parts, shade in _GROUPS:
        mean_ms = np.array([1e3 * sum(data.summary.policies[name].latency_parts_s.get(part, 0.0) for part in parts) for name in names])
        if mean_ms.max() > 0 and mean_ms.max() >= 0.005 * (start + mean_ms).max():
            axes.barh(places, mean_ms, left=start, height=0.68, color=shade, label=label)
        start += mean_ms
    for place, total in zip(places, start, strict=True):
        axes.annotate(f"{total:.0f}", (total, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(yticks=places, yticklabels=names, xlabel="mean latency of answered requests, ms")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.08)
    emphasise(axes, names, data)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
