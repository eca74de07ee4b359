"""What travels in a message's header for each encoded tensor: the parameters that its decoder needs."""

from __future__ import annotations

import math

import msgspec

LEVELS = 255
"""Steps between the lowest and the highest of the 256 values that eight bits have."""


class AsIs(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """The decoder needs the shape and dtype only."""


class Affine(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """value = scale * (level - zero_point), level in 0..255."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0.0):
            raise ValueError(f"Affine.scale must be finite and > 0, got {self.scale!r}")
        if not 0 <= self.zero_point <= LEVELS:
            raise ValueError(f"Affine.zero_point must be in 0..{LEVELS}, got {self.zero_point}")


class Sparse(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """All elements but `num_kept` are zero."""

    num_kept: int

    def __post_init__(self) -> None:
        if self.num_kept < 0:
            raise ValueError(f"Sparse.num_kept must be >= 0, got {self.num_kept}")


Parameters = AsIs | Affine | Sparse


class TensorHeader(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How one tensor's frame is to be read."""

    parameters: Parameters
    compressed: bool = False
    """Whether a lossless stage made the frame smaller."""
