"""The knobs of the application, and their settings.

Source: Jiang et al., "Chameleon: Scalable Adaptation of Video Analytics", SIGCOMM 2018, section 2: frame rate and
resolution are knobs, a setting of all of them is a configuration, and the most expensive one is the golden one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

RegionName = Literal["whole", "busy"]
SCALES = (1, 2, 4)
INTERVALS = (1, 2, 3)
REGIONS: tuple[RegionName, ...] = ("whole", "busy")


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What of a frame is sent to the network."""

    scale: int = 1
    """Sides are divided by it."""
    region: RegionName = "whole"
    """The whole frame, or the box in which nearly everything happens."""

    def __post_init__(self) -> None:
        if self.scale not in SCALES or self.region not in REGIONS:
            raise ValueError(f"a look has a scale of {SCALES} and a region of {REGIONS}, got {self.scale} and {self.region!r}")

    @property
    def name(self) -> str:
        """Short, also the name of its model: `cells-busy-2`."""
        return f"cells-{self.region}-{self.scale}"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A value for every knob."""

    look: Look = Look()
    interval: int = 1
    """Every so many frames are looked at; the others repeat the last answer."""

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"an interval is at least 1 frame, got {self.interval}")

    def label(self) -> str:
        """For people: `1/2 busy, each 2`."""
        size = "full" if self.look.scale == 1 else f"1/{self.look.scale}"
        return f"{size} {self.look.region}, each {self.interval}"


GOLDEN = Setting()
"""Every frame, whole and at full resolution: what the others are measured against."""


class Knobs(msgspec.Struct, frozen=True, kw_only=True):
    """The values that each knob may have; the golden ones are always among them."""

    scales: tuple[int, ...] = SCALES
    regions: tuple[RegionName, ...] = REGIONS
    intervals: tuple[int, ...] = INTERVALS

    def __post_init__(self) -> None:
        if GOLDEN not in self.settings:
            raise ValueError(f"the knobs must be able to say {GOLDEN.label()!r}, got {self}")

    @property
    def looks(self) -> tuple[Look, ...]:
        """All of them, the golden one first."""
        every = (Look(scale=scale, region=region) for region in self.regions for scale in self.scales)
        return tuple(sorted(every, key=lambda look: look != GOLDEN.look))

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All combinations."""
        return tuple(Setting(look=look, interval=interval) for look in self.looks for interval in self.intervals)
