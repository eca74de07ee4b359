"""What the simulator leaves out of what a scenario switches on: the one place where that is known.

Such scenarios are simulated all the same, without it, and whoever shows their figures says so; how much it matters is
what the run's simulator-to-live error says.  Predictions know of reuse only what policies learn: whether a cache
knows a request is seen after its decision, so it cannot be one of the features that decide.

    modelled        the device's and the edge's cache for equal inputs; the device's filter of unchanged frames
    not modelled    what `not_modelled` names
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from envs.scenario import Scenario
from runtime.codecs import is_lossless
from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.messages import TIERS, Outcome, Tier
from runtime.topology import TierConfig

_REUSE = {("no", None), ("cache-exact", "device"), ("cache-exact", "edge"), ("filter-unchanged", "device")}


def not_modelled(scenario: Scenario) -> tuple[str, ...]:
    """What of this scenario the simulator does not know, key first; empty when it knows all of it."""
    return (*(text for tier in TIERS for text in _of_tier(scenario, tier)), *_of_the_rest(scenario))


def simulator_notice(texts: Iterable[str]) -> list[str]:
    """The same for people, a line each."""
    return [f"not modelled by the simulator: {text}" for text in texts]


def simulated_too(outcome: Outcome) -> bool:
    """Whether the simulator knows this way to an answer: computing it, or one of the kinds of reuse that it models.

    It has one edge: what another one was given, even in vain, went a way that is not in it.
    """
    return (outcome.reused, outcome.reused_at) in _REUSE and not outcome.handed_over and outcome.breakdown.handover_s == 0


def _of_tier(scenario: Scenario, tier: Tier) -> Iterator[str]:
    config = scenario.topology.tier(tier)
    if config.cache is not None:
        if tier == "cloud":
            yield "cloud.cache (answers known in the cloud)"
        else:
            if config.cache.max_distance is not None:
                yield f"{tier}.cache.max_distance (answers to similar inputs; those to equal ones are)"
            if config.cache.any_form:
                yield f"{tier}.cache.any_form (answers of other variants and exits)"
    if config.relevance and scenario.workload.inputs.stream:
        yield f"{tier}.relevance (frames without anything of interest; unchanged ones are)"
    if _discriminates(config.tenancy):
        yield f"{tier}.tenancy (shares, quotas and admission)"
    if config.batching.max_batch > 1:
        yield f"{tier}.batching (requests that run together)"
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


def _of_the_rest(scenario: Scenario) -> Iterator[str]:
    if scenario.topology.num_edges > 1 and scenario.topology.edge.handover is not None:
        yield "edge.handover (work that another edge does)"
    inputs, states = scenario.workload.inputs, scenario.topology.radio_power.around
    if states.promotion_s or states.tail_s:
        yield "radio (energy of waking up and staying awake)"
    if inputs.perturbation != "none" and inputs.perturbed_fraction > 0:
        yield "workload.inputs.perturbation (what it does to answers)"
    if not all(is_lossless(codec) for codec in scenario.techniques.codecs):
        yield "techniques.codecs (what two lossy crossings do together, and to confidence)"
