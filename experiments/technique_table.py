"""Techniques off and on as a table: for a terminal, or as plain aligned text; and what "on" means for each."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.stats import Estimate
from experiments.table import Grid
from experiments.technique_effects import Effect, Setting

HEADER = (
    "technique", "p50 ms", "p95 ms", "latency change", "accuracy", "energy mJ", "uplink kB", "wan kB", "memory MB", "leakage", "reused",
    "failed", "sim err",
)  # fmt: skip


def effect_grid(effects: Sequence[Effect]) -> Grid:
    """Two rows for each technique, off and on; the change of latency is in the second."""
    rows = []
    for effect in effects:
        rows.append(_row(f"{effect.technique}: off  ({effect.off.decision})", "", effect.off))
        rows.append(_row(f"{effect.technique}: on   ({effect.on.decision})", interval_text(effect.change.latency), effect.on))
    return Grid(header=HEADER, rows=tuple(rows), emphasised=None)


def legend(effects: Sequence[Effect]) -> list[str]:
    """One line for each technique, what "on" does; and how to read the table."""
    width = max((len(effect.technique) for effect in effects), default=0)
    return [
        *(f"{effect.technique.ljust(width)}  {effect.what}" for effect in effects),
        "",
        "latency change: geometric mean of on/off over the same requests, with its 95 % interval over blocks played in turns;",
        "a failed request counts with its deadline. Energy is modelled. Leakage: distance correlation of what left the device",
        "with the input, 0 nothing, 1 the input itself. Memory: peak resident sets of the tiers that computed.",
    ]


def interval_text(estimate: Estimate) -> str:
    """ "-34 % (-36 .. -31)"."""
    return f"{100 * estimate.mean:+.0f} % ({100 * estimate.low:+.0f} .. {100 * estimate.high:+.0f})"


def _row(name: str, change: str, setting: Setting) -> tuple[str, ...]:
    return (
        name,
        f"{setting.latency_p50_s * 1e3:.1f}",
        f"{setting.latency_p95_s * 1e3:.1f}",
        change,
        f"{setting.accuracy:.1%}" if setting.accuracy is not None else "",
        f"{setting.energy_joules_mean * 1e3:.1f}",
        f"{setting.uplink_bytes_mean / 1e3:.2f}",
        f"{setting.wan_bytes_mean / 1e3:.2f}",
        f"{setting.memory_bytes / 1e6:.0f}",
        f"{setting.leakage_mean:.2f}",
        f"{setting.reused_fraction:.0%}",
        f"{setting.failed}/{setting.requests}",
        f"{setting.sim_latency_abs_pct_error:.1f} %" if setting.sim_latency_abs_pct_error is not None else "",
    )
