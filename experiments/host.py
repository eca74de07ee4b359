"""What the machine below this one did meanwhile: a virtual machine's processors are not always its own."""

from __future__ import annotations

from typing import Any

import psutil

STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class StealMeter:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def fraction(self) -> float | None:
        """Share of all processor time so far that was wanted here and given to others; None where the system does not tell."""
        return stolen_fraction(self._before, psutil.cpu_times())


def stolen_fraction(before: Any, after: Any) -> float | None:
    """The same between two of psutil's readings, seconds per state."""
    if not hasattr(after, "steal"):
        return None
    spent = {state: getattr(after, state, 0.0) - getattr(before, state, 0.0) for state in STATES}
    total_s = sum(spent.values())
    return max(0.0, spent["steal"]) / total_s if total_s > 0 else 0.0
