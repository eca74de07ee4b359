"""Predicted and simulated latency against what really happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from experiments.plots.style import Axes, Figure, PlotData, Theme, colour, plain_log
from experiments.records import Record
from experiments.simgap import by_policy


def predicted_against_realised(data: PlotData, theme: Theme) -> Figure | None:
    """One dot per answered request, both axes logarithmic; on the diagonal the expectation came true."""
    questions = (
        ("Predicted when deciding", lambda record: record.predicted_latency_s),
        ("Replayed in the simulator", lambda record: record.simulated_latency_s),
    )
    known = [(title, expected) for title, expected in questions if any(_pairs(data.records, expected))]
    if not known:
        return None
    figure = Figure(figsize=(9.6, 5.3) if len(known) == 2 else (5.4, 5.6))
    panels = figure.subplots(1, len(known), squeeze=False).ravel()
    for axes, (title, expected) in zip(panels, known, strict=True):
        _panel(axes, data, theme, title, expected)
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)), markerscale=2.0, handletextpad=0.2)
    return figure


def _panel(axes: Axes, data: PlotData, theme: Theme, title: str, expected: Callable[[Record], float | None]) -> None:
    everything = np.array(_pairs(data.records, expected))
    low, high = everything.min() * 0.8, everything.max() * 1.25
    axes.fill_between([low, high], [low / 1.25, high / 1.25], [low * 1.25, high * 1.25], color=theme.grid, alpha=0.7, linewidth=0)
    axes.plot([low, high], [low, high], color=theme.soft, linewidth=1)
    groups = by_policy(data.records)
    for name in data.policies:
        pairs = np.array(_pairs(groups[name], expected)).reshape(-1, 2)
        axes.scatter(pairs[:, 1], pairs[:, 0], s=9, alpha=0.4, linewidths=0, color=colour(data, name, theme), label=name)
    error = np.median(np.abs(everything[:, 0] / everything[:, 1] - 1))
    axes.set_title(f"{title}: median error {error:.0%}")
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), box_aspect=1)
    axes.set(xlabel="realised latency, ms", ylabel="expected latency, ms")
    for axis in (axes.xaxis, axes.yaxis):
        plain_log(axis)


def _pairs(records: Iterable[Record], expected: Callable[[Record], float | None]) -> list[tuple[float, float]]:
    """(expected, realised) in ms of the answered requests that have both."""
    pairs = []
    for record in records:
        value = expected(record)
        if value is not None and value > 0 and record.latency_s > 0 and not record.failed:
            pairs.append((1e3 * value, 1e3 * record.latency_s))
    return pairs
