"""A training job beside live requests: the device sees it, decisions set its tau, and the reward has what it brings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from envs.features import STATE_FIELDS
from envs.job_config import JobConfig, beside
from envs.job_features import JOB_FIELDS
from envs.live import LiveSystem, launch_live
from envs.live_job import LiveJob
from envs.make import catalogued, shipped_profile
from envs.offload import OffloadEnv
from envs.reward import TRAINING_TERM, Objective
from envs.scenario import Scenario, load_scenario
from envs.training_job import TrainingJob
from runtime.errors import SystemFailure
from runtime.messages import DataSpec, FitJob, LocalSpec, NetworkSpec, Outcome, TauSpec
from runtime.profile import Profile
from tests.envs.jobs import measured
from tests.envs.simulation.test_job import JOB

FIT = FitJob(
    name="beside",
    network=NetworkSpec(arguments={"width": 0.5}),
    data=DataSpec(num_clients=2),
    local=LocalSpec(learning_rate=0.05, momentum=0.0),
    tau=TauSpec(tau=1),
)
STEPS_DONE = len(STATE_FIELDS) + [field.name for field in JOB_FIELDS].index("job_steps")
BESIDE: TrainingJob = msgspec.structs.replace(JOB, tau=1, taus=(1, 3), num_clients=2, learning_rate=0.05)


NUM_REQUESTS, FEW = 40, 5


def brief() -> Scenario:
    """The congested scenario's nodes and links, quick devices, a few seconds of requests."""
    scenario = load_scenario("congested")
    workload = msgspec.structs.replace(scenario.workload, num_requests=NUM_REQUESTS, rate_per_s=6.0, burst_rate_per_s=6.0)
    device = msgspec.structs.replace(scenario.topology.device, full_model_s=None)
    topology = msgspec.structs.replace(scenario.topology, device=device)
    return msgspec.structs.replace(
        scenario, workload=workload, topology=topology, objective=Objective(loss_drop=5.0), fit=FIT, job=JobConfig(taus=BESIDE.taus)
    )  # fmt: skip


def known() -> Profile:
    """A profile that has rounds of the job."""
    return msgspec.structs.replace(shipped_profile("digits-cnn"), job=measured(BESIDE, FIT))


@pytest.fixture(scope="module")
def system(digits_model: Path) -> Iterator[LiveSystem]:
    """Cloud, edge, and two devices of which the first has the requests."""
    with launch_live(brief(), profile=known()) as system:
        yield system


@pytest.mark.slow
def test_requests_and_rounds_share_an_episode(system: LiveSystem) -> None:
    """Every request ends, rounds go on meanwhile; taus decided by the environment's actions are those of later rounds; it pays."""
    env = OffloadEnv(system, catalogued(brief(), known(), "validation"))
    features, _ = env.reset(seed=1)
    outcomes, training, taus, counts = list[Outcome](), 0.0, list[int](), list[float]()
    assert system.job is not None
    for number in range(NUM_REQUESTS):
        if number == FEW:  # a busy host's rounds are slow: the one under way has tau 1 still, the next one has what was decided
            system.job.wait(len(system.job.records) + 2, timeout_s=60.0)
        counts.append(float(features["state"][STEPS_DONE]))
        features, _, terminated, truncated, info = env.step(np.array([0, 1]))
        assert not truncated, info.get("error")
        outcomes += info["outcomes"]
        training += info["reward_terms"][TRAINING_TERM]
        taus += [info["decision"].tau] if info["decision"].tau is not None else []
        if terminated:
            break
    assert sorted(outcome.request_id for outcome in outcomes) == list(range(NUM_REQUESTS))
    assert set(taus) == {3}
    records = system.job.records
    assert {record.tau for record in records} == {1, 3}
    assert [record.round for record in records] == list(range(1, len(records) + 1))
    assert training > 0
    assert len(set(counts)) > 1 or len(counts) < 2 * FEW  # the device counts its local steps, seen unless requests ended before rounds
    assert training <= 5.0 * (2.5 - min(record.test_loss or 9.0 for record in records))


@pytest.mark.slow
def test_every_episode_begins_the_job_anew(system: LiveSystem) -> None:
    """Its records are those of this episode; a job that the nodes refuse is a failed system with the reason."""
    assert system.job is not None
    system.job.begin(77, TauSpec(tau=2))
    system.job.wait(2, timeout_s=60.0)
    assert {record.tau for record in system.job.records} == {2}
    assert system.job.report.num_steps == 2 * system.job.report.num_rounds >= 4
    system.job.end()
    bad = LiveJob(msgspec.structs.replace(beside(FIT), name="bad", compressor="zip"), system.job.places)
    with bad, pytest.raises(SystemFailure, match="compressor 'zip' does not exist"):
        bad.begin(1)
    system.job.begin(78)  # and the nodes are free again
    system.job.end()
