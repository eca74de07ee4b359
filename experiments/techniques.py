"""One technique at a time, on and off, on the same requests: what is played, and what it changed.

Techniques of a decision are shown where they can show something: compression and early exits on the device alone, partition
and codecs on a split between device and edge.  Which split is decided by predicted latency on idle links, without the technique.
Techniques of a node (caches, filters, batches, tenants, hand-over) are shown on inputs or loads that give them something to do; both
of their settings play those.
"""

from __future__ import annotations

import msgspec

from envs.costs import CostModel
from envs.inputs import InputsConfig
from envs.scenario import Scenario
from envs.workload import BackgroundConfig
from runtime.errors import InvalidInput
from runtime.inference.batching import BatchingConfig
from runtime.inference.cache import CacheConfig
from runtime.inference.filter import FilterConfig
from runtime.inference.tenancy import DEFAULT_TENANT, TenancyConfig, TenantConfig
from runtime.messages import Decision, Tier
from runtime.protocol.handover import HandoverConfig
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig

REFERENCE_VARIANT = "fp32"
POPULARITY = 0.83
"""Zipf exponent of the pictures that come again.  Source: Breslau et al., INFOCOM 1999: web proxies see 0.64 to 0.83."""
SIMILAR_BITS = 24
"""Of 256: calibrated on the digits for 5 % wrong answers among those that similar pictures are given."""
FRAMES_PER_PICTURE = 3.0
"""Of popular pictures: each is asked for so often in a row, so that short episodes on many pictures have repeats too."""
FRAMES_PER_SCENE = 6.0
FILTER_LEVELS, FILTER_AGE_S = 12.0, 2.0
"""Frames that differ by less than noise of 4 grey levels does are skipped, for two seconds at the most."""
NEIGHBOUR = "neighbour"
FLOOD_LOAD = 1.5
"""Seconds of work that a neighbour's flood brings the edge per second: more than it can do."""
BATCHING_LOAD = 1.05
"""The same of all requests together, for batches: hardly more than it can do one by one."""
HANDOVER_LOAD = 1.3
"""The same of what the device's edge is asked for by others, where another edge has nothing to do."""
BETWEEN_EDGES = LinkConfig(rate=ConstantRate(bytes_per_s=12.5e6), down_rate=ConstantRate(bytes_per_s=12.5e6), delay_s=0.002)
"""100 Mbit/s and a few kilometres, always emulated."""
MAX_BATCH = 8
MAX_NEIGHBOUR_PER_S = 300.0
"""As fast as the playing process sends without disturbing the nodes on a small host."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What one setting plays: every request decided alike."""

    scenario: Scenario
    decision: Decision


class Technique(msgspec.Struct, frozen=True, kw_only=True):
    """A technique and two trials that differ by it alone."""

    name: str
    what: str
    """For people: what "on" does."""
    off: Trial
    on: Trial

    @property
    def players(self) -> tuple[str, str]:
        """Names of the two policies that always take these decisions."""
        return f"{self.name}: off", f"{self.name}: on"


def all_techniques(scenario: Scenario, cost_model: CostModel) -> tuple[Technique, ...]:
    """Every technique that this model and its nodes can use.  Raises InvalidInput for a model without the reference variant."""
    return (
        *decision_techniques(scenario, cost_model),
        *node_techniques(scenario, cost_model),
        *sharing_techniques(scenario, cost_model),
    )


def decision_techniques(scenario: Scenario, cost_model: CostModel) -> tuple[Technique, ...]:
    """Those that a decision switches."""
    decisions = cost_model.decisions
    last = max(decision.exit for decision in decisions)
    end = cost_model.exit_ends[last]
    home, away, split = _find(cost_model, (end, end), last), _find(cost_model, (0, end), last), _best_split(cost_model, last, end)

    def technique(name: str, what: str, off: Decision, on: Decision) -> Technique:
        return Technique(name=name, what=what, off=Trial(scenario=scenario, decision=off), on=Trial(scenario=scenario, decision=on))

    shown = [technique("partition", f"device runs [0,{split.cuts[0]}), edge the rest, against edge only", away, split)]
    if last:
        shown.append(technique("early exit", "the first exit answers, always", home, _find(cost_model, (cost_model.exit_ends[0],) * 2, 0)))
    if any(decision.early_exit for decision in decisions):
        shown.append(technique("confidence exits", "leave at the first confident exit", home, _but(home, early_exit=True)))
    variants = dict.fromkeys(decision.variant for decision in decisions if decision.variant != REFERENCE_VARIANT)
    codecs = dict.fromkeys(decision.codec for decision in decisions if decision.codec != "identity")
    return (
        *shown,
        *(technique(f"variant {name}", f"the model's form {name} on the device", home, _but(home, variant=name)) for name in variants),
        *(technique(f"codec {name}", f"tensors cross the links in {name}", split, _but(split, codec=name)) for name in codecs),
    )


def node_techniques(scenario: Scenario, cost_model: CostModel) -> tuple[Technique, ...]:
    """Those that a tier's configuration switches: the same decision, nodes with and without."""
    last = len(cost_model.exit_ends) - 1
    end = cost_model.exit_ends[last]
    home, away = _find(cost_model, (end, end), last), _find(cost_model, (0, end), last)
    bare = msgspec.structs.replace(scenario, topology=scenario.topology.without_reuse())

    def technique(name: str, what: str, decision: Decision, inputs: InputsConfig, tier: Tier, **on: object) -> Technique:
        off = msgspec.structs.replace(bare, workload=msgspec.structs.replace(bare.workload, inputs=inputs))
        topology = msgspec.structs.replace(off.topology, **{tier: msgspec.structs.replace(off.topology.tier(tier), **on)})
        trials = (Trial(scenario=each, decision=decision) for each in (off, msgspec.structs.replace(off, topology=topology)))
        return Technique(name=name, what=what, off=next(trials), on=next(trials))

    popular = InputsConfig(zipf_exponent=POPULARITY, frames_per_picture=FRAMES_PER_PICTURE)
    noisy = msgspec.structs.replace(popular, perturbation="noise")
    scenes = InputsConfig(frames_per_picture=FRAMES_PER_SCENE, perturbation="noise", stream="camera")
    similar = CacheConfig(max_distance=SIMILAR_BITS)
    watching = FilterConfig(threshold=FILTER_LEVELS, max_age_s=FILTER_AGE_S)
    return (
        technique("edge cache", "equal pictures are answered by the edge's cache", away, popular, "edge", cache=CacheConfig()),
        technique("device cache", "equal pictures are answered by the device's cache", home, popular, "device", cache=CacheConfig()),
        technique("similar cache", f"pictures within {SIMILAR_BITS} bits, noise is SYNTHETIC", away, noisy, "edge", cache=similar),
        technique("input filter", "frames of a still scene are skipped, noise is SYNTHETIC", home, scenes, "device", filter=watching),
    )


def sharing_techniques(scenario: Scenario, cost_model: CostModel) -> tuple[Technique, ...]:
    """Those by which edges serve several at once: everything runs there, beside a neighbour's requests for the same."""
    last = len(cost_model.exit_ends) - 1
    away = _find(cost_model, (0, cost_model.exit_ends[last]), last)
    job_s = float(cost_model.mean("edge_s")[cost_model.find(away)])

    def technique(name: str, what: str, per_s: float, num_edges: int = 1, **on: object) -> Technique:
        rate_per_s = min(max(per_s, 1.0), MAX_NEIGHBOUR_PER_S)
        background = BackgroundConfig(rate_per_s=rate_per_s, burst_rate_per_s=rate_per_s, tenant=NEIGHBOUR)
        topology = scenario.topology.without_reuse().without_sharing()
        if num_edges > 1:
            topology = msgspec.structs.replace(topology, num_edges=num_edges, neighbour=BETWEEN_EDGES)
        off = msgspec.structs.replace(scenario, topology=topology, background=background)
        edge = msgspec.structs.replace(topology.edge, **on)
        trials = (off, msgspec.structs.replace(off, topology=msgspec.structs.replace(topology, edge=edge)))
        words = f"{what}, beside {rate_per_s:.0f} /s of a neighbour ({rate_per_s * job_s:.0%} of the edge)"
        return Technique(name=name, what=words, off=Trial(scenario=trials[0], decision=away), on=Trial(scenario=trials[1], decision=away))

    own_per_s = scenario.workload.rate_per_s
    tenants = TenancyConfig(tenants=(TenantConfig(name=DEFAULT_TENANT), TenantConfig(name=NEIGHBOUR)))
    return (
        technique(
            "dynamic batching",
            f"the edge runs up to {MAX_BATCH} equal jobs together{', batch times MODELLED' if scenario.topology.edge.emulated else ''}",
            BATCHING_LOAD / job_s - own_per_s,
            batching=BatchingConfig(max_batch=MAX_BATCH),
        ),
        technique("multi-tenancy", "fair queueing between two tenants on the edge, against one queue", FLOOD_LOAD / job_s, tenancy=tenants),
        technique(
            "hand-over",
            "the edge hands work to another one, which has nothing to do, over an EMULATED link",
            HANDOVER_LOAD / job_s - own_per_s,
            num_edges=2,
            handover=HandoverConfig(),
        ),
    )


def _but(decision: Decision, **changes: object) -> Decision:
    return msgspec.structs.replace(decision, **changes)


def _find(cost_model: CostModel, cuts: tuple[int, int], exit: int) -> Decision:
    wanted = Decision(model=cost_model.model, variant=REFERENCE_VARIANT, cuts=cuts, exit=exit)
    if wanted not in cost_model.decisions:
        raise InvalidInput(f"techniques are shown against {wanted.label()}, which {cost_model.model!r} does not have")
    return wanted


def _best_split(cost_model: CostModel, exit: int, end: int) -> Decision:
    """The device-edge split of least latency when nothing waits and the uplink is as it was profiled."""

    def latency_s(p: int) -> float:
        way = cost_model.way_decision.index(cost_model.find(_find(cost_model, (p, end), exit)))
        sending_s = cost_model.uplink_bytes[way] / cost_model.uplink.rate_bytes_per_s
        return cost_model.device_s[way] + sending_s + cost_model.edge_s[way]

    return _find(cost_model, (min(range(1, end), key=latency_s), end), exit)
