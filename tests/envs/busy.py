"""A scenario whose load does not change when the shipped ones do."""

from __future__ import annotations

import msgspec

from envs.scenario import Scenario
from envs.workload import BackgroundConfig, WorkloadConfig
from tests.envs.profiles import make_scenario


def busy_scenario(num_requests: int = 300) -> Scenario:
    """The shipped `congested`, its links and tiers, under bursts that fill every queue now and then."""
    return msgspec.structs.replace(
        make_scenario(),
        workload=WorkloadConfig(num_requests=num_requests, rate_per_s=15.0, burst_rate_per_s=60.0, calm_s=2.0, burst_s=1.0, deadline_s=0.3),
        background=BackgroundConfig(rate_per_s=30.0, burst_rate_per_s=120.0, calm_s=1.5, burst_s=0.7),
    )
