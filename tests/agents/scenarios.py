"""The shipped scenario cut down to what is quick to simulate."""

from __future__ import annotations

import msgspec

from envs.scenario import Scenario
from runtime.rates import ConstantRate
from tests.envs.profiles import make_scenario


def short_scenario(num_requests: int) -> Scenario:
    """Few requests, over links whose rate is constant: nothing that takes long to draw."""
    scenario = make_scenario()
    uplink = msgspec.structs.replace(scenario.topology.uplink, rate=ConstantRate(bytes_per_s=3e5))
    return msgspec.structs.replace(
        scenario,
        topology=msgspec.structs.replace(scenario.topology, uplink=uplink),
        workload=msgspec.structs.replace(scenario.workload, num_requests=num_requests),
    )
