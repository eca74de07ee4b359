"""What the machine below this one did meanwhile: a virtual machine's processors are not always its own."""

from __future__ import annotations

from typing import Any

import psutil

DISTURBING_STEAL = 0.03
"""Share of the processor time from which on an episode is played again, and it is said: a choice, not a measurement."""
STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def is_disturbed(steal: float | None) -> bool:
    """Whether the host took more than a figure should bear; what is not known disturbs nobody."""
    return steal is not None and steal >= DISTURBING_STEAL


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
