"""The live environment, and what LiveSystem does when the world is unkind to it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import gymnasium
import msgspec
import psutil
import pytest
from gymnasium.utils.env_checker import check_env

import drlctl  # noqa: F401  # registers the environments
from envs.calibration import calibrate, calibration_scenario
from envs.live import launch_live
from envs.make import shipped_profile
from envs.offload import OffloadEnv
from envs.scenario import Scenario, load_scenario
from runtime.errors import SystemFailure
from runtime.messages import Decision


def short(num_requests: int = 12, rate_per_s: float = 60.0) -> Scenario:
    """The congested scenario, but brief."""
    scenario = load_scenario("congested")
    workload = msgspec.structs.replace(scenario.workload, num_requests=num_requests, rate_per_s=rate_per_s, burst_rate_per_s=rate_per_s)
    return msgspec.structs.replace(scenario, workload=workload)


def test_gymnasium_accepts_the_live_environment(digits_model: Path) -> None:
    """`check_env` passes on real processes, and closing leaves none of them."""
    env = gymnasium.make("drlctl/OffloadLive-v0", scenario=short(), disable_env_checker=True).unwrapped
    assert isinstance(env, OffloadEnv)
    assert len(psutil.Process().children()) == 3
    check_env(env)
    env.close()
    env.close()
    assert psutil.Process().children() == []


def test_a_dead_device_truncates_the_episode(digits_model: Path) -> None:
    """kill -9 of the device amid an episode: truncated with the reason in info, no exception, nothing left running."""
    env = gymnasium.make("drlctl/OffloadLive-v0", scenario=short(200), disable_env_checker=True).unwrapped
    assert isinstance(env, OffloadEnv)
    env.reset(seed=1)
    (device,) = [child for child in psutil.Process().children() if "device" in " ".join(child.cmdline())]
    os.kill(device.pid, signal.SIGKILL)
    over, info = False, {}
    while not over:
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        over = terminated or truncated
    assert truncated
    assert "device node ended with exit code -9" in info["error"]
    env.close()
    assert psutil.Process().children() == []


def test_the_world_goes_on_while_the_agent_thinks(digits_model: Path) -> None:
    """An agent that ponders longer than the device waits loses those requests to the fallback, and they still count."""
    with launch_live(short(20), profile=shipped_profile("digits-cnn")) as live:
        step = live.reset(3)
        outcomes = list(step.outcomes)
        threading.Event().wait(0.4)
        while step.observation is not None:
            step = live.execute(Decision(model="digits-cnn", variant="int8", cuts=(7, 7), exit=2))
            outcomes += step.outcomes
    assert sorted(outcome.request_id for outcome in outcomes) == list(range(20))
    assert sum(outcome.decided_by == "fallback" for outcome in outcomes) >= 5


def test_deciding_without_a_request_is_an_error(digits_model: Path) -> None:
    """execute before reset says what is missing."""
    with launch_live(short()) as live, pytest.raises(SystemFailure, match="call reset first"):
        live.execute(Decision(model="digits-cnn", variant="int8", cuts=(7, 7), exit=2))


@pytest.mark.slow
def test_the_calibrated_simulator_explains_the_requests_it_was_fitted_to(digits_model: Path) -> None:
    """Under light load, simulated latency is within a few percent of live latency in the median."""
    scenario = load_scenario("congested")
    with launch_live(calibration_scenario(scenario)) as live:
        profile, residuals = calibrate(shipped_profile("digits-cnn"), scenario, live)
    assert residuals.num_requests >= 60
    assert residuals.median_abs_fraction < 0.2
    assert 0 <= profile.overheads.base_s < 0.05
