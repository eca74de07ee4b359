"""Virtual time: what happens next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Clock:
    """Calls in the order of their instants; of one instant, in the order in which they were given."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, at_s: float, call: Callable[..., None], *arguments: Any) -> None:
        """Let it happen then, or now if that is past."""
        self._count += 1
        heapq.heappush(self._due, (at_s, self._count, call, arguments))

    @property
    def next_s(self) -> float:
        """When something happens next; infinite when nothing does."""
        return self._due[0][0] if self._due else float("inf")

    def step(self) -> None:
        """Go on to the next instant, and let its first call happen."""
        at_s, _, call, arguments = heapq.heappop(self._due)
        self.now_s = max(self.now_s, at_s)
        call(*arguments)
