"""Accuracy and cost of settings on the same frames, from what each look gave and cost.

A look at a frame is paid for once, whichever intervals it is judged for: how often one looks costs nothing to find out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from experiments.video.agreement import f1, hold_last
from experiments.video.knobs import GOLDEN, Look, Setting

CostName = Literal["energy", "bytes", "compute"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one frame: what it gave, what it cost."""

    occupied: np.ndarray | None
    """bool [rows, columns] of the whole grid; None when the request failed."""
    energy_joules: float
    """Of the device, modelled: preparing the picture, computing, radio."""
    uplink_bytes: int
    compute_s: float
    """Preparing the picture and computing, all tiers together."""
    latency_s: float


Looks = Mapping[Look, Sequence[Seen]]
"""What each look gave on the same frames, in order."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a report costs, mean per frame of the camera."""

    energy_joules: float
    uplink_bytes: float
    compute_s: float

    def by(self, name: CostName) -> float:
        """The one of them that is to be least."""
        return {"energy": self.energy_joules, "bytes": self.uplink_bytes, "compute": self.compute_s}[name]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A setting on some frames."""

    setting: Setting
    accuracy: float
    """F1 against the golden setting on those frames."""
    cost: Cost


def cost_of(seen: Sequence[Seen], num_frames: int) -> Cost:
    """Of all these looks, per frame."""
    return Cost(
        energy_joules=sum(each.energy_joules for each in seen) / num_frames,
        uplink_bytes=sum(each.uplink_bytes for each in seen) / num_frames,
        compute_s=sum(each.compute_s for each in seen) / num_frames,
    )


def measure(settings: Sequence[Setting], looks: Looks, blank: np.ndarray) -> tuple[Measured, ...]:
    """Each setting's accuracy and cost; `looks` has theirs and the golden one's.  `blank` is reported before the first answer."""
    reference = np.stack(hold_last([seen.occupied for seen in looks[GOLDEN.look]], blank))
    return tuple(_measure(setting, looks[setting.look], reference, blank) for setting in settings)


def _measure(setting: Setting, seen: Sequence[Seen], reference: np.ndarray, blank: np.ndarray) -> Measured:
    answers = [each.occupied if index % setting.interval == 0 else None for index, each in enumerate(seen)]
    accuracy = f1(reference, np.stack(hold_last(answers, blank)))
    return Measured(setting=setting, accuracy=accuracy, cost=cost_of(seen[:: setting.interval], len(seen)))
