"""A federated training job beside the requests of one device: what a round takes, and how its loss falls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from envs.convergence import ConvergenceModel
from envs.job_traits import JobTraits
from runtime.errors import InvalidInput
from runtime.topology import require
from runtime.training.recording import Recording


class TrainingJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One client's share of the rounds, and all clients' progress."""

    step_s: float
    """One local step on the device, alone and with its emulated slowdown; it gives way to requests."""
    up_bytes: float
    """The device's update on the wire."""
    down_bytes: float
    """The global weights on the wire."""
    aggregation_s: float = 0.0
    """From the update's arrival at the edge until the next weights leave it: the other clients, the aggregation, the server."""
    num_clients: int = 8
    learning_rate: float
    tau: int = 10
    """Local steps of a round for which nobody decided otherwise."""
    taus: tuple[int, ...] = ()
    """Among which a controller chooses for the rounds to come; empty: nobody does."""
    convergence: ConvergenceModel

    def __post_init__(self) -> None:
        for name in ("step_s", "up_bytes", "down_bytes", "learning_rate"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, f"a training job's {name} must be finite and > 0, got {value}")
        require(0 <= self.aggregation_s < math.inf, f"aggregation_s must be finite and >= 0, got {self.aggregation_s}")
        require(self.num_clients >= 1 and self.tau >= 1, f"num_clients and tau must be >= 1, got {self.num_clients} and {self.tau}")

    @property
    def traits(self) -> JobTraits | None:
        """What a controller knows of it; None where it has nothing to choose.  Raises InvalidProfile unless `tau` is one of the taus."""
        if not self.taus:
            return None
        initial_loss = float(self.convergence.loss(self.convergence.start(1))[0])
        step_s, up_bytes = float(self.step_s), float(self.up_bytes)  # a whole number would come back from JSON as another text
        return JobTraits(taus=self.taus, tau=self.tau, step_s=step_s, up_bytes=up_bytes, initial_loss=initial_loss)


def job_of(recordings: Sequence[Recording], convergence: ConvergenceModel) -> TrainingJob:
    """A job whose rounds take what recorded ones took, medians of all; transfers are left to the simulated links.

    Raises InvalidInput when no round was recorded, or none of bytes and seconds.
    """
    records = [record for recording in recordings for record in recording.rounds]
    if not records:
        raise InvalidInput("no recorded rounds to take a training job's times from")
    step_s = float(np.median([record.compute_s / record.tau for record in records]))
    up_bytes, down_bytes = (float(np.median([getattr(r, name) / r.num_clients for r in records])) for name in ("up_bytes", "down_bytes"))
    if not (step_s > 0 and up_bytes > 0 and down_bytes > 0):
        raise InvalidInput(f"recorded rounds must say seconds and bytes, got {step_s} s a step, {up_bytes} bytes up and {down_bytes} down")
    return TrainingJob(
        step_s=step_s,
        up_bytes=up_bytes,
        down_bytes=down_bytes,
        aggregation_s=float(np.median([record.waiting_s for record in records])),
        num_clients=round(float(np.median([record.num_clients for record in records]))),
        learning_rate=recordings[0].learning_rate,
        convergence=convergence,
    )
