"""Training jobs beside requests, for tests: a scenario that trains one, and a profile that knows its rounds; nothing is measured."""

from __future__ import annotations

import msgspec

from envs.job_config import JobConfig
from envs.scenario import Scenario
from envs.training_job import TrainingJob
from runtime.messages import DataSpec, FitJob, LocalSpec, TauSpec
from runtime.profile import Profile
from runtime.training.job_profile import JobProfile, job_digest


def with_job(scenario: Scenario, profile: Profile, job: TrainingJob | None) -> tuple[Scenario, Profile]:
    """Both such that this job trains beside the requests; None: none does."""
    if job is None:
        return scenario, profile
    fit = FitJob(
        data=DataSpec(num_clients=job.num_clients), local=LocalSpec(learning_rate=job.learning_rate), tau=TauSpec(tau=job.tau, max_tau=1000)
    )
    beside = msgspec.structs.replace(scenario, fit=fit, job=JobConfig(taus=job.taus))
    return beside, msgspec.structs.replace(profile, job=measured(job, fit))


def measured(job: TrainingJob, fit: FitJob) -> JobProfile:
    """What a profile would know of it."""
    return JobProfile(
        digest=job_digest(fit), step_s=job.step_s, up_bytes=job.up_bytes, down_bytes=job.down_bytes,
        aggregation_s=job.aggregation_s, convergence=job.convergence,
    )  # fmt: skip
