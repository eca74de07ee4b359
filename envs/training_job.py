"""The training job beside a scenario's requests, as simulators and cost models have it: what is asked for and what was measured of it."""

from __future__ import annotations

import msgspec

from envs.job_traits import JobTraits
from envs.scenario import Scenario
from runtime.errors import InvalidProfile
from runtime.profile import Profile
from runtime.training.convergence import ConvergenceModel
from runtime.training.job_profile import job_digest


class TrainingJob(msgspec.Struct, frozen=True, kw_only=True):
    """One client's share of the rounds, and all clients' progress.  Checked where it comes from: the scenario and its profile."""

    step_s: float
    """One local step on the device, alone and with its emulated slowdown; it gives way to requests."""
    up_bytes: float
    """The device's update on the wire."""
    down_bytes: float
    """The global weights on the wire."""
    aggregation_s: float
    """From the update's arrival at the edge until the next weights leave it: the other clients, the aggregation, the server."""
    num_clients: int
    learning_rate: float
    tau: int
    """Local steps of a round for which nobody decided otherwise."""
    taus: tuple[int, ...]
    """Among which a controller chooses for the rounds to come."""
    convergence: ConvergenceModel

    @property
    def traits(self) -> JobTraits:
        """What a controller knows of it."""
        initial_loss = float(self.convergence.loss(self.convergence.start(1))[0])
        step_s, up_bytes = float(self.step_s), float(self.up_bytes)  # a whole number would come back from JSON as another text
        return JobTraits(taus=self.taus, tau=self.tau, step_s=step_s, up_bytes=up_bytes, initial_loss=initial_loss)


def training_job(scenario: Scenario, profile: Profile) -> TrainingJob | None:
    """What trains beside the scenario's requests; None where nothing does.

    Raises InvalidProfile when something does, and the profile does not know it.
    """
    if scenario.job is None:
        return None
    again = f"measure it with `drlctl profile {scenario.name}`"
    measured = profile.job
    if measured is None:
        raise InvalidProfile(f"scenario {scenario.name!r} trains a job beside its requests, and the profile has no rounds of it; {again}")
    if measured.digest != job_digest(scenario.fit):
        raise InvalidProfile(f"the profile's rounds are of another job than scenario {scenario.name!r} trains; {again}")
    return TrainingJob(
        step_s=measured.step_s,
        up_bytes=measured.up_bytes,
        down_bytes=measured.down_bytes,
        aggregation_s=measured.aggregation_s,
        num_clients=scenario.fit.data.num_clients,
        learning_rate=scenario.fit.local.learning_rate,
        tau=scenario.fit.tau.tau,
        taus=scenario.job.taus,
        convergence=measured.convergence,
    )
