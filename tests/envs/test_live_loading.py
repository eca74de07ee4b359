"""Cold nodes and little memory, live and simulated: the same requests wait for models about as long."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from envs.live import launch_live
from envs.make import shipped_profile
from envs.scenario import Scenario, load_scenario
from envs.simulators import simulated_system
from envs.system import Step, System
from envs.workload import BackgroundConfig, WorkloadConfig
from runtime.host import StealMeter, is_disturbed
from runtime.load_profiler import measure_loading
from runtime.messages import Decision, Outcome
from runtime.models.manifest import load_manifest
from runtime.models.pieces import pieces_of
from runtime.profile import Profile
from runtime.protocol.residency import Residency
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig

pytestmark = pytest.mark.slow

NUM_REQUESTS = 24
CHOSEN = [Decision(model="digits-cnn", variant=("fp32", "int8")[request % 2], cuts=(0, 7), exit=2) for request in range(NUM_REQUESTS)]
SLACK = 2.0
"""Sessions take half as long or twice as long on a busy host."""


@pytest.fixture(scope="module")
def profile(digits_model: Path) -> Profile:
    """The shipped one, with what loading takes here and now."""
    return msgspec.structs.replace(shipped_profile("digits-cnn"), loading=measure_loading(digits_model))


def cold_and_tight(model_dir: Path) -> Scenario:
    """An edge with nothing but room for one variant, far from the cloud."""
    manifest = load_manifest(model_dir)
    budget = max(Residency([manifest], None).needed_bytes(pieces_of(manifest, chosen, "edge")) for chosen in CHOSEN)
    scenario, rate = load_scenario("calm"), ConstantRate(bytes_per_s=4e6)
    topology = msgspec.structs.replace(
        scenario.topology,
        edge=msgspec.structs.replace(scenario.topology.edge, model_memory_bytes=budget),
        uplink=LinkConfig(rate=rate, down_rate=rate, delay_s=0.002),
        wan=LinkConfig(rate=rate, down_rate=rate, delay_s=0.002),
        distribute=True,
    )
    workload = WorkloadConfig(num_requests=NUM_REQUESTS, rate_per_s=6.0, burst_rate_per_s=6.0, deadline_s=5.0)
    return msgspec.structs.replace(scenario, topology=topology, workload=workload, background=BackgroundConfig())


def play(system: System, seed: int) -> list[Outcome]:
    """An episode's outcomes by request."""
    step: Step = system.reset(seed)
    outcomes = list(step.outcomes)
    while step.observation is not None:
        step = system.execute(CHOSEN[step.observation.request_id])
        outcomes += step.outcomes
    return sorted(outcomes, key=lambda outcome: outcome.request_id)


def test_cold_nodes_wait_live_as_they_do_simulated(digits_model: Path, profile: Profile) -> None:
    """Most changes of variant load, the first two fetch; the medians and the waits for the first of each variant agree."""
    scenario = cold_and_tight(digits_model)
    simulated = play(simulated_system(scenario, profile, split="test"), seed=5)
    meter = StealMeter()
    with launch_live(scenario, profile=profile) as system:
        live = play(system, seed=5)
    for played in (live, simulated):
        assert len(played) == NUM_REQUESTS
        assert all(outcome.breakdown.total_s() == pytest.approx(outcome.latency_s, abs=1e-6) for outcome in played)
    if is_disturbed(steal := meter.fraction()):
        pytest.skip(
            f"this machine's host took {steal:.0%} of its processor time away: how long sessions take says nothing of the simulator"
        )
    assert {outcome.status for outcome in (*live, *simulated)} == {"ok"}
    waited, expected_to = (sum(outcome.breakdown.load_s[1] > 0 for outcome in played) for played in (live, simulated))
    assert min(waited, expected_to) > NUM_REQUESTS / 2  # who comes while the last but one is still computed finds its variant there
    median_s, expected_s = (np.median([outcome.latency_s for outcome in played]) for played in (live, simulated))
    assert expected_s / SLACK < median_s < expected_s * SLACK
    fetched_s, expected_fetch_s = (played[0].breakdown.load_s[1] for played in (live, simulated))
    assert fetched_s == pytest.approx(expected_fetch_s, rel=0.5)
