"""Techniques off and on as a table: for a terminal, or as plain aligned text."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.table import Grid
from experiments.techniques import Effect, Setting

HEADER = (
    "technique", "p50 ms", "p95 ms", "accuracy", "energy mJ", "uplink kB", "wan kB", "memory MB", "leakage", "reused", "failed", "sim err",
)  # fmt: skip


def effect_grid(effects: Sequence[Effect]) -> Grid:
    """Two rows for each technique, off and on; what "on" is, is in the second."""
    rows = []
    for effect in effects:
        rows.append(_row(f"{effect.technique}: off  ({effect.off.decision})", effect.off))
        rows.append(_row(f"{effect.technique}: on   ({effect.on.decision})", effect.on))
    return Grid(header=HEADER, rows=tuple(rows), emphasised=None)


def _row(name: str, setting: Setting) -> tuple[str, ...]:
    return (
        name,
        f"{setting.latency_p50_s * 1e3:.1f}",
        f"{setting.latency_p95_s * 1e3:.1f}",
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
