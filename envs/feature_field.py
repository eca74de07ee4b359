"""What a feature is called, means and lies in."""

from __future__ import annotations

from typing import NamedTuple

BOUND = 5.0
"""Every feature lies in [-BOUND, BOUND]."""


class Field(NamedTuple):
    """One feature."""

    name: str
    meaning: str
    unit: str
    low: float
    high: float
