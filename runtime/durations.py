"""How long what is done again and again takes, by what was seen of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

SMOOTHING = 0.2
"""Weight of the last time in a smoothed one."""
WARM_TIMES, WARM_S = 20, 5e-3
"""How often something is done over when it is first met, and for how long at most."""


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
    """The least seconds seen: what the work itself takes.  Emulated tiers multiply these, for a host's noise is not theirs.

    Nor are its cold caches: what was done once between two naps takes up to six times as long as in a loop, in which profiles
    measure it (thumbnails of 64 x 64 pixels on two shared x86 cores: 31 us, 195 us after 20 ms of rest).
    """

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = {}

    def add(self, key: Hashable, took_s: float, again: Callable[[], float] | None = None) -> float:
        """Count one more; the least so far.  `again` does the same work over and says its seconds: asked when it is the first."""
        if again is not None and key not in self._seconds:
            took_s = min(took_s, least_s(again))
        self._seconds[key] = least = min(took_s, self._seconds.get(key, took_s))
        return least


def least_s(again: Callable[[], float]) -> float:
    """The least of some times in a row, WARM_TIMES at most and WARM_S, but one at least."""
    least, spent_s = math.inf, 0.0
    for _ in range(WARM_TIMES):
        took_s = again()
        least, spent_s = min(least, took_s), spent_s + took_s
        if spent_s >= WARM_S:
            break
    return least
