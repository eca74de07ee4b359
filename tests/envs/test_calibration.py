"""Fitting overheads to what was played, on quiet and on busy hosts."""

from __future__ import annotations

import msgspec
import pytest

from envs.calibration import NUM_ATTEMPTS, calibrate, calibration_scenario
from envs.simulated import SimulatedSystem
from envs.system import Step
from runtime.errors import SystemFailure
from runtime.messages import Decision
from runtime.profile import Overheads
from tests.envs.profiles import make_profile, make_scenario

QUIET, BUSY = Overheads(base_s=0.002, uplink_s=0.001, wan_s=0.0015), Overheads(base_s=1.06)


class Host:
    """A system whose overheads are these, one episode after another; the last ones stay."""

    def __init__(self, *overheads: Overheads) -> None:
        light, profile = calibration_scenario(make_scenario()), make_profile()
        self._systems = [SimulatedSystem(light, msgspec.structs.replace(profile, overheads=each), split="test") for each in overheads]
        self.num_played = 0

    def reset(self, seed: int) -> Step:
        """See System."""
        self._system = self._systems[min(self.num_played, len(self._systems) - 1)]
        self.num_played += 1
        return self._system.reset(seed)

    def execute(self, decision: Decision) -> Step:
        """See System."""
        return self._system.execute(decision)

    def close(self) -> None:
        """Nothing to release."""


def test_a_quiet_host_s_overheads_are_found_at_once() -> None:
    """What the played requests took beyond compute and links, from one episode."""
    host = Host(QUIET)
    profile, residuals = calibrate(make_profile(), make_scenario(), host)
    found, expected = (msgspec.structs.astuple(each) for each in (profile.overheads, QUIET))
    assert found == pytest.approx(expected, abs=1e-4)
    assert (host.num_played, residuals.median_abs_fraction < 0.01) == (1, True)


def test_a_stalled_host_is_measured_again() -> None:
    """An overhead that no request would survive is not believed while another episode says less."""
    host = Host(BUSY, QUIET)
    profile, _ = calibrate(make_profile(), make_scenario(), host)
    assert profile.overheads.base_s == pytest.approx(QUIET.base_s, abs=1e-4)
    assert host.num_played == 2


def test_a_scenario_that_repeats_nothing_is_calibrated_once() -> None:
    """Disturbed or not: one episode."""
    scenario = make_scenario()
    once = msgspec.structs.replace(scenario, evaluation=msgspec.structs.replace(scenario.evaluation, max_repeats=0))
    host = Host(BUSY, QUIET)
    with pytest.raises(SystemFailure, match="attempts: 1"):
        calibrate(make_profile(), once, host)
    assert host.num_played == 1


def test_a_host_that_stays_busy_is_refused() -> None:
    """A profile by which every simulated request misses its deadline is no profile: nothing could be learned from it."""
    host = Host(BUSY)
    with pytest.raises(SystemFailure, match="too busy"):
        calibrate(make_profile(), make_scenario(), host)
    assert host.num_played == NUM_ATTEMPTS
