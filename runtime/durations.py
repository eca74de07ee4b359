"""How long what is done again and again takes, by what was seen of it."""

from __future__ import annotations

from collections.abc import Hashable

SMOOTHING = 0.2
"""Weight of the last time in a smoothed one."""


class Smoothed:
    """Exponentially smoothed seconds: what to expect of the next time."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = {}

    def add(self, key: Hashable, took_s: float) -> None:
        """Count one more."""
        known_s = self._seconds.get(key, took_s)
        self._seconds[key] = known_s + SMOOTHING * (took_s - known_s)

    def expected_s(self, key: Hashable, default_s: float) -> float:
        """The smoothed time, or the default for what was never done."""
        return self._seconds.get(key, default_s)


class Least:
    """The least seconds seen: what the work itself takes.  Emulated tiers multiply these, for a host's noise is not theirs."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = {}

    def add(self, key: Hashable, took_s: float) -> float:
        """Count one more; the least so far."""
        self._seconds[key] = least_s = min(took_s, self._seconds.get(key, took_s))
        return least_s
