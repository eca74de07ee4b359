"""What the machine below this one did meanwhile: a virtual machine's processors are not always its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import psutil

DISTURBING_STEAL = 0.03
"""Share of the processor time from which on a measurement is made again, and it is said: a choice, not a measurement."""
LEAST_S = 0.5
"""Processor seconds below which no share is told: systems count them in hundredths."""
STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")

T = TypeVar("T")


class StealMeter:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def fraction(self) -> float | None:
        """Share of all processor time so far that was wanted here and given to others; None where that cannot be told."""
        return stolen_fraction(self._before, psutil.cpu_times())


def stolen_fraction(before: Any, after: Any) -> float | None:
    """The same between two of psutil's readings, seconds per state; None too between readings that are too close."""
    if not hasattr(after, "steal"):
        return None
    spent = {state: getattr(after, state, 0.0) - getattr(before, state, 0.0) for state in STATES}
    total_s = sum(spent.values())
    return max(0.0, spent["steal"]) / total_s if total_s >= LEAST_S else None


def is_disturbed(steal: float | None) -> bool:
    """Whether the host took more than a figure should bear; what is not known disturbs nobody."""
    return steal is not None and steal >= DISTURBING_STEAL


def least_disturbed(measure: Callable[[], T], max_attempts: int, meter: Callable[[], StealMeter] = StealMeter) -> tuple[T, float | None]:
    """What `measure` says, asked again while the host disturbs it; (the least disturbed answer, the share stolen meanwhile).

    Raises what `measure` raises.
    """
    attempts: list[tuple[T, float | None]] = []
    while len(attempts) < max_attempts:
        running = meter()
        answer = measure()
        attempts.append((answer, running.fraction()))
        if not is_disturbed(attempts[-1][1]):
            break
    return min(attempts, key=lambda attempt: attempt[1] or 0.0)
