"""What a cache did so far."""

from __future__ import annotations

import msgspec


class CacheCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Totals since the cache was made.  Look-ups: hits_exact + hits_similar + misses."""

    hits_exact: int = 0
    hits_similar: int = 0
    misses: int = 0
    stored: int = 0
    refused: int = 0
    """Answers that alone exceed the budget."""
    evicted_expired: int = 0
    evicted_budget: int = 0
    evicted_replaced: int = 0
    evicted_invalidated: int = 0

    def hit_fraction(self) -> float:
        """Hits per look-up; 0 before the first."""
        hits = self.hits_exact + self.hits_similar
        return hits / (hits + self.misses) if hits + self.misses else 0.0
