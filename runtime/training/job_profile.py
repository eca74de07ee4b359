"""What was measured of a training job that runs beside requests: what its rounds take, and how its loss falls.

Measured on live rounds (runtime/training/job_profiler.py), kept in the profile, read by the simulators.
"""

from __future__ import annotations

import hashlib
import math

import msgspec

from runtime.errors import InvalidProfile
from runtime.messages import FitJob, TauSpec
from runtime.training.convergence import ConvergenceModel


class RunError(msgspec.Struct, frozen=True, kw_only=True):
    """How far the convergence model is from the recorded rounds of one run."""

    tau: int | None
    """Of all its rounds; None: another for each."""
    held_out: bool
    """Whether the model was fitted without it."""
    num_rounds: int
    mean_relative: float
    """|predicted - recorded loss| / recorded loss."""
    worst_relative: float

    def __str__(self) -> str:
        taus = "a tau drawn for every round" if self.tau is None else f"tau {self.tau}"
        return (
            f"convergence model, {taus} ({'held out' if self.held_out else 'fitted'}): {self.mean_relative:.1%} off on average,"
            f" {self.worst_relative:.1%} at worst, over {self.num_rounds} rounds"
        )


class JobProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One client's rounds, and all clients' progress.  Raises InvalidProfile for times and sizes that no round has."""

    digest: str
    """Of the job (`job_digest`): another one's rounds take another time."""
    step_s: float
    """One local step on the device, alone and with its emulated slowdown; it gives way to requests."""
    up_bytes: float
    """The device's update on the wire."""
    down_bytes: float
    """The global weights on the wire."""
    aggregation_s: float = 0.0
    """From the update's arrival at the edge until the next weights leave it: the other clients, the aggregation, the server."""
    convergence: ConvergenceModel
    errors: tuple[RunError, ...] = ()

    def __post_init__(self) -> None:
        for name in ("step_s", "up_bytes", "down_bytes"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidProfile(f"a training job's {name} must be finite and > 0, got {value}")
        if not 0 <= self.aggregation_s < math.inf:
            raise InvalidProfile(f"a training job's aggregation_s must be finite and >= 0, got {self.aggregation_s}")


def job_digest(job: FitJob) -> str:
    """SHA-256 over what rounds take and bring; neither tau nor how many rounds there are has a part in that."""
    measured = msgspec.structs.replace(job, name="fit", tau=TauSpec(), rounds=1, target_accuracy=None, folder="")
    return hashlib.sha256(msgspec.json.encode(measured, order="deterministic")).hexdigest()
