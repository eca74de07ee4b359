"""Real vectors as integers mod 2^32, so that sums are exact whatever their order.

A value x becomes round(x 2^f) mod 2^32; sums of K such values are read back as signed and divided by 2^f.
Values are clipped to what K summands may hold without a wrap: |x| <= (2^31 - 1) / (K 2^f) rounded down to whole units.
"""

from __future__ import annotations

import msgspec
import numpy as np

from runtime.errors import InvalidConfig, InvalidTensor

MODULUS_BITS = 32

Masked = np.ndarray
"""Uint32 [P], arithmetic mod 2^32."""


class FixedPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many bits stand behind the point, and for how many summands there is room."""

    fraction_bits: int = 16
    max_summands: int

    def __post_init__(self) -> None:
        if not 0 <= self.fraction_bits < MODULUS_BITS or self.max_summands < 1 or self.largest_unit() < 1:
            raise InvalidConfig(
                f"expected fraction_bits in 0..31 and max_summands in 1..2^31 - 1, got {self.fraction_bits} and {self.max_summands}"
            )

    def largest_unit(self) -> int:
        """The largest integer that one summand may have."""
        return int(2 ** (MODULUS_BITS - 1) - 1) // self.max_summands

    def bound(self) -> float:
        """The largest magnitude that survives unclipped."""
        return self.largest_unit() / 2.0**self.fraction_bits

    def quantise(self, vector: np.ndarray) -> Masked:
        """Uint32 of a finite float vector, rounded to nearest and clipped to `bound()`.  Raises InvalidTensor."""
        if not np.isfinite(vector).all():
            raise InvalidTensor("only finite vectors can be quantised, got NaN or infinity")
        units = np.rint(np.asarray(vector, np.float64) * 2.0**self.fraction_bits)
        limit = self.largest_unit()
        return np.clip(units, -limit, limit).astype(np.int64).astype(np.uint32)

    def restore(self, total: Masked) -> np.ndarray:
        """Float64 of a sum of at most `max_summands` quantised vectors."""
        return total.astype(np.uint32).view(np.int32).astype(np.float64) / 2.0**self.fraction_bits
