"""What a controller knows of the training job beside the requests before it has seen anything of it."""

from __future__ import annotations

import math

import msgspec

from runtime.errors import InvalidProfile


class JobTraits(msgspec.Struct, frozen=True, kw_only=True):
    """Static facts of a job, and the taus among which a controller chooses: row t of the tau action is taus[t]."""

    taus: tuple[int, ...]
    """Rising."""
    tau: int
    """With which the job begins; one of `taus`."""
    step_s: float
    """One local step on the device, alone."""
    up_bytes: float
    """The device's update on the wire."""
    initial_loss: float
    """Before the first round: what losses are measured by."""

    def __post_init__(self) -> None:
        if not self.taus or list(self.taus) != sorted(set(self.taus)) or self.taus[0] < 1 or self.tau not in self.taus:
            raise InvalidProfile(f"a job's taus rise, are >= 1, and hold the one that it begins with; got {self.taus} and {self.tau}")
        for name in ("step_s", "up_bytes", "initial_loss"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidProfile(f"a job's {name} must be finite and > 0, got {value}")

    @property
    def default_row(self) -> int:
        """Of the tau that it begins with: what is chosen where there is nothing to choose."""
        return self.taus.index(self.tau)
