"""The report's tables."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from experiments import page
from experiments.plots.style import LIGHT, PlotData, colour
from experiments.simgap import SimToLive
from experiments.summary import PolicySummary


class _Column(msgspec.Struct, frozen=True):
    title: str
    value: Callable[[PolicySummary], float | None]
    show: Callable[[float], str]
    sign: int = 1
    """-1 where more is better, 0 where neither is."""
    below: Callable[[PolicySummary], str] = lambda policy: ""


def _interval(policy: PolicySummary) -> str:
    low, high = policy.cost_ci95
    return f"{low:.3f} to {high:.3f}"


def _above_interval(policy: PolicySummary) -> str:
    above = policy.cost_above_learned
    return f"{above.low:+.3f} to {above.high:+.3f}" if above is not None else ""


def _above(policy: PolicySummary) -> float | None:
    return policy.cost_above_learned.mean if policy.cost_above_learned is not None else None


def _reasons(policy: PolicySummary) -> str:
    return ", ".join(f"{status} {count}" for status, count in policy.statuses.items() if status != "ok")


_COLUMNS = (
    _Column("cost", lambda policy: policy.cost_mean, lambda value: f"{value:.3f}", 1, _interval),
    _Column("above learned", _above, lambda value: f"{value:+.3f}", 0, _above_interval),
    _Column("p50 ms", lambda policy: policy.latency_p50_s, lambda value: f"{value * 1e3:.0f}"),
    _Column("p95 ms", lambda policy: policy.latency_p95_s, lambda value: f"{value * 1e3:.0f}"),
    _Column("missed", lambda policy: policy.miss_fraction, lambda value: f"{value:.1%}"),
    _Column("failed", lambda policy: policy.failed, lambda value: f"{value:.0f}", 1, _reasons),
    _Column("accuracy", lambda policy: policy.accuracy, lambda value: f"{value:.1%}", -1),
    _Column("energy mJ", lambda policy: policy.energy_joules_mean, lambda value: f"{value * 1e3:.0f}"),
    _Column("uplink kB", lambda policy: policy.uplink_bytes_mean, lambda value: f"{value / 1e3:.2f}"),
    _Column("leakage", lambda policy: policy.leakage_mean, lambda value: f"{value:.2f}"),
    _Column("decide µs", lambda policy: policy.decision_p50_s, lambda value: f"{value * 1e6:.0f}"),
    _Column("fallbacks", lambda policy: policy.fallbacks, lambda value: f"{value:.0f}", 0),
)


def comparison_table(data: PlotData) -> str:
    """All policies, cheapest first, the best of each column underlined."""
    policies = data.summary.policies
    best = {column.title: _best(column, list(policies.values())) for column in _COLUMNS}
    rows = []
    for name, policy in policies.items():
        shade = colour(data, name, LIGHT)
        cells = [page.swatch_cell(name, None if shade == LIGHT.ink else shade)]
        for column in _COLUMNS:
            value = column.value(policy)
            text = column.show(value) if value is not None else ""
            cells.append(page.cell(text, column.below(policy), "best" if text and text == best[column.title] else ""))
        rows.append(("learned" if name == data.summary.learned else "", cells))
    header = ("policy", *(column.title for column in _COLUMNS))
    requests = sorted({policy.requests for policy in policies.values()})
    per_policy = f"{requests[0]}" if len(requests) == 1 else f"{requests[0]} to {requests[-1]}"
    return page.table(header, rows) + page.paragraph(f"{per_policy} requests per policy.", "soft")


def gap_table(gap: SimToLive) -> str:
    """Per policy: cost in both worlds, and how far replayed latencies are off."""
    rows = []
    for name in sorted(set(gap.cost_live) | set(gap.latency_median_abs_pct_error_by_policy), key=lambda name: gap.cost_live.get(name, 0.0)):
        error, cost_error = gap.latency_median_abs_pct_error_by_policy.get(name), gap.cost_pct_error_by_policy.get(name)
        cells = [
            page.cell(name),
            page.cell(f"{gap.cost_live[name]:.3f}" if name in gap.cost_live else ""),
            page.cell(f"{gap.cost_simulated[name]:.3f}" if name in gap.cost_simulated else ""),
            page.cell(f"{cost_error:+.1f} %" if cost_error is not None else ""),
            page.cell(f"{error:.1f} %" if error is not None else ""),
        ]
        rows.append(("", cells))
    return page.table(("policy", "cost live", "cost simulated", "difference", "latency, median error of the replay"), rows)


def _best(column: _Column, policies: list[PolicySummary]) -> str | None:
    """The best value of a column as it is shown, so that what looks equal is marked equal."""
    values = [value for policy in policies if (value := column.value(policy)) is not None]
    if not values or column.sign == 0:
        return None
    best = column.show(min(values, key=lambda value: column.sign * value))
    return best if any(column.show(value) != best for value in values) else None
