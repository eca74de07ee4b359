"""What of a scenario which simulator knows, and what neither does: the one place where that is known.

    vectorised   queues, links, neighbours, codecs, exits, the device's and the edge's cache for equal inputs, the filter of
                 unchanged frames
    by events    all that nodes do, for it runs their state machines; what `by_events` names is why a scenario needs it
    neither      what `not_modelled` names

Scenarios are simulated without what is not modelled, and whoever shows their figures says so; how much it matters is
what the run's simulator-to-live error says.  Predictions know of reuse, sharing, hand-over and loading only what policies learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from envs.scenario import Scenario
from runtime.codecs import is_lossless
from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.messages import TIERS, Tier
from runtime.topology import TierConfig


def by_events(scenario: Scenario) -> tuple[str, ...]:
    """What the scenario switches on and the vectorised simulator does not know, key first; with any of it, it is simulated by events."""
    return (*(text for tier in TIERS for text in _of_tier(scenario, tier)), *_handover(scenario), *_fetching(scenario))


def not_modelled(scenario: Scenario) -> tuple[str, ...]:
    """What of this scenario its simulator does not know, key first; empty when it knows all of it."""
    return tuple(_unknown(scenario))


def simulator_notice(scenario: Scenario) -> list[str]:
    """For people, a line each: why a scenario is simulated by events, and what is left out."""
    return [*(f"simulated by events, for {text}" for text in by_events(scenario)), *left_out_notice(not_modelled(scenario))]


def left_out_notice(texts: Iterable[str]) -> list[str]:
    """The same of what `not_modelled` named, alone."""
    return [f"not modelled by the simulator: {text}" for text in texts]


def _of_tier(scenario: Scenario, tier: Tier) -> Iterator[str]:
    config = scenario.topology.tier(tier)
    if config.cache is not None:
        if tier == "cloud":
            yield "cloud.cache (answers known in the cloud)"
        else:
            if config.cache.max_distance is not None:
                yield f"{tier}.cache.max_distance (answers to similar inputs)"
            if config.cache.any_form:
                yield f"{tier}.cache.any_form (answers of other variants and exits)"
    if config.relevance and scenario.workload.inputs.stream:
        yield f"{tier}.relevance (frames without anything of interest)"
    if _discriminates(config.tenancy):
        yield f"{tier}.tenancy (shares, quotas and admission)"
    if config.batching.max_batch > 1:
        yield f"{tier}.batching (requests that run together)"
    if config.model_memory_bytes is not None:
        yield f"{tier}.model_memory_bytes (loading models)"
    if config.max_waiting < _most_waiting(scenario, tier):
        yield f"{tier}.max_waiting (work refused because {config.max_waiting} are waiting)"


def _discriminates(tenancy: TenancyConfig) -> bool:
    """Whether anything but first come first served can come of it."""
    return len(tenancy.tenants) > 1 or tenancy.admission or _without_name(tenancy.tenants[0]) != TenantConfig(name="any")


def _without_name(tenant: TenantConfig) -> TenantConfig:
    """Nor its weight and its deadline: without others, and without admission, they do nothing."""
    return msgspec.structs.replace(tenant, name="any", weight=1.0, deadline_s=None)


def _most_waiting(scenario: Scenario, tier: Tier) -> int:
    """Jobs that a tier's queue may have to hold; nobody counts the neighbours', so with them the default bound is none."""
    neighbours = scenario.background.rate_per_s > 0 or scenario.background.burst_rate_per_s > 0
    return TierConfig().max_waiting if tier == "edge" and neighbours else min(scenario.topology.max_in_flight, TierConfig().max_waiting)


def _handover(scenario: Scenario) -> Iterator[str]:
    if scenario.topology.num_edges > 1 and scenario.topology.edge.handover is not None:
        yield "edge.handover (work that another edge does)"


def _fetching(scenario: Scenario) -> Iterator[str]:
    if scenario.topology.distribute:
        yield "distribute (nodes that fetch models from above)"


def _unknown(scenario: Scenario) -> Iterator[str]:
    if scenario.topology.distribute:
        yield "distribute (files that earlier episodes left with the nodes: each simulated one begins without)"
    if any(_handover(scenario)) and not scenario.topology.neighbour.emulated:
        yield "neighbour (the real link between edges: nothing is profiled of it, it is taken for free)"
    if scenario.techniques.early_exit and not by_events(scenario):
        yield "techniques.early_exit (that devices do not know where a request will leave: own work and bytes under way count as they will)"
    inputs, states = scenario.workload.inputs, scenario.topology.radio_power.around
    if (states.promotion_s or states.tail_s) and not by_events(scenario):
        yield "radio (energy of waking up and staying awake)"
    if inputs.perturbation != "none" and inputs.perturbed_fraction > 0:
        yield "workload.inputs.perturbation (what it does to answers)"
    if not all(is_lossless(codec) for codec in scenario.techniques.codecs):
        yield "techniques.codecs (what two lossy crossings do together, and to confidence)"
