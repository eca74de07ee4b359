"""Scenarios and profiles in which both simulators mean the same, and episodes played by events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from envs.inputs import InputsConfig
from envs.scenario import Scenario
from envs.simulation.events.episode import Episode
from envs.simulation.events.scene import Scene
from envs.workload import BackgroundConfig, WorkloadConfig
from runtime.messages import Decision, Observation, Outcome, Tier
from runtime.models.examples import Examples
from runtime.profile import Overheads, Profile
from runtime.rates import ConstantRate
from tests.envs.busy import busy_scenario
from tests.envs.profiles import make_profile

SEED = 11
EDGE_ONLY = Decision(model="digits-cnn", variant="fp32", cuts=(0, 7), exit=2)
DEVICE_ONLY = Decision(model="digits-cnn", variant="fp32", cuts=(7, 7), exit=2)
_AT_ONCE = ConstantRate(bytes_per_s=1e15)


class Played(NamedTuple):
    """An episode: what was asked, and outcomes by request."""

    observations: list[Observation]
    outcomes: list[Outcome]


def play(scenario: Scenario, profile: Profile, seed: int, chosen: Sequence[Decision], examples: Examples | None = None) -> Played:
    """The episode with request k decided as `chosen[k]`; all that came to the device is in the observations."""
    episode = Episode(Scene(scenario, profile, "validation", examples), seed)
    observations = []
    while (ask := episode.next_ask()) is not None:
        observations.append(ask.observation)
        if not (ask.refused or ask.skipped):
            episode.decide(ask.observation.request_id, chosen[ask.observation.request_id])
    return Played(observations, sorted(episode.take_ended(), key=lambda outcome: outcome.request_id))


def without_overheads(profile: Profile) -> Profile:
    """The two simulators place what the runtime takes differently, at either end of what happens between."""
    return msgspec.structs.replace(profile, overheads=Overheads(), lookup_s=0.0, thumbnail_s=0.0)


def with_free_results(scenario: Scenario) -> Scenario:
    """The vectorised simulator's results do not wait for one another on their way down."""
    topology = scenario.topology
    links = {name: msgspec.structs.replace(getattr(topology, name), down_rate=_AT_ONCE) for name in ("uplink", "wan")}
    return msgspec.structs.replace(scenario, topology=msgspec.structs.replace(topology, **links))


def steady(rate_per_s: float, neighbours_per_s: float = 0.0, num_requests: int = 150, **inputs: Any) -> Scenario:
    """The busy scenario's nodes under Poisson arrivals, with neighbours on the edge as a tenant `others`, and time to wait."""
    return msgspec.structs.replace(
        busy_scenario(),
        workload=WorkloadConfig(
            num_requests=num_requests, rate_per_s=rate_per_s, burst_rate_per_s=rate_per_s, deadline_s=1.0, inputs=InputsConfig(**inputs)
        ),
        background=BackgroundConfig(rate_per_s=neighbours_per_s, burst_rate_per_s=neighbours_per_s, tenant="others"),
    )


def with_tier(scenario: Scenario, tier: Tier, **changes: object) -> Scenario:
    """The scenario with one tier changed."""
    topology = scenario.topology
    changed = msgspec.structs.replace(topology.tier(tier), **changes)
    return msgspec.structs.replace(scenario, topology=msgspec.structs.replace(topology, **{tier: changed}))


def play_alike(scenario: Scenario, decision: Decision, seed: int = SEED, examples: Examples | None = None) -> list[Outcome]:
    """Outcomes when every request is decided so."""
    return play(scenario, make_profile(scenario), seed, [decision] * scenario.workload.num_requests, examples).outcomes
