"""One technique at a time, on and off, on the same requests: what is played, and what it changed.

Techniques of a decision are shown where they can show something: compression and early exits on the device alone, partition
and codecs on a split between device and edge.  Which split is decided by predicted latency on idle links, without the technique.
Techniques of a node (caches, filters, batches) are shown on inputs or loads that give them something to do; both of their
settings play those.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from envs.costs import CostModel
from envs.inputs import InputsConfig
from envs.scenario import Scenario
from experiments.records import Record
from experiments.simgap import by_policy
from runtime.errors import InvalidInput
from runtime.inference.cache import CacheConfig
from runtime.inference.filter import FilterConfig
from runtime.messages import Decision, Tier

REFERENCE_VARIANT = "fp32"
POPULARITY = 0.83
"""Zipf exponent of the pictures that come again.  Source: Breslau et al., INFOCOM 1999: web proxies see 0.64 to 0.83."""
SIMILAR_BITS = 24
"""Of 256: calibrated on the digits for 5 % wrong answers among those that similar pictures are given."""
FRAMES_PER_SCENE = 6.0
FILTER_LEVELS, FILTER_AGE_S = 12.0, 2.0
"""Frames that differ by less than noise of 4 grey levels does are skipped, for two seconds at the most."""


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
    return (*decision_techniques(scenario, cost_model), *node_techniques(scenario, cost_model))


def decision_techniques(scenario: Scenario, cost_model: CostModel) -> tuple[Technique, ...]:
    """Those that a decision switches."""
    decisions = cost_model.decisions
    last = max(decision.exit for decision in decisions)
    end = cost_model.exit_ends[last]
    home, away, split = _find(cost_model, (end, end), last), _find(cost_model, (0, end), last), _best_split(cost_model, last, end)

    def technique(name: str, what: str, off: Decision, on: Decision) -> Technique:
        return Technique(name=name, what=what, off=Trial(scenario=scenario, decision=off), on=Trial(scenario=scenario, decision=on))

    shown = [
        technique("partition", f"device runs [0,{split.cuts[0]}), edge the rest, against edge only", away, split),
        technique("early exit", "the first exit answers, always", home, _find(cost_model, (cost_model.exit_ends[0],) * 2, 0)),
    ]
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

    popular = InputsConfig(zipf_exponent=POPULARITY)
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


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A technique off or on: KPIs over its requests."""

    decision: str
    requests: int
    failed: int
    latency_p50_s: float
    latency_p95_s: float
    accuracy: float | None
    energy_joules_mean: float
    """Modelled."""
    uplink_bytes_mean: float
    wan_bytes_mean: float
    memory_bytes: int
    """Peak resident sets of the tiers that computed, summed; the largest of all requests."""
    leakage_mean: float
    """Privacy: distance correlation of what left the device with the input; 0 nothing left, 1 the input itself."""
    reused_fraction: float
    """Requests answered from a cache or by a filter."""
    sim_latency_abs_pct_error: float | None
    """Median absolute error of the simulator on the same requests; None where it does not know the technique."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a technique does."""

    technique: str
    what: str
    off: Setting
    on: Setting


def effects(techniques: Sequence[Technique], records: Sequence[Record]) -> tuple[Effect, ...]:
    """KPIs of every technique off and on.  Raises InvalidInput when one was not played."""
    played = by_policy(records)
    missing = [name for technique in techniques for name in technique.players if name not in played]
    if missing:
        raise InvalidInput(f"no records of {', '.join(missing)}: their episodes broke; see the warnings above")
    return tuple(
        Effect(
            technique=technique.name,
            what=technique.what,
            off=setting_of(technique.off.decision.label(), played[technique.players[0]]),
            on=setting_of(technique.on.decision.label(), played[technique.players[1]]),
        )
        for technique in techniques
    )


def setting_of(label: str, records: Sequence[Record]) -> Setting:
    """KPIs over records."""
    answered = [record for record in records if not record.failed]
    latency_s = [record.latency_s for record in records]
    judged = [record.correct is True for record in records if record.correct is not None]
    errors = [abs(record.simulated_latency_s / record.latency_s - 1) for record in answered if record.simulated_latency_s is not None]
    return Setting(
        decision=label,
        requests=len(records),
        failed=len(records) - len(answered),
        latency_p50_s=float(np.median(latency_s)),
        latency_p95_s=float(np.quantile(latency_s, 0.95)),
        accuracy=float(np.mean(judged)) if judged else None,
        energy_joules_mean=float(np.mean([record.energy_joules for record in records])),
        uplink_bytes_mean=float(np.mean([record.link_bytes[0] for record in records])),
        wan_bytes_mean=float(np.mean([record.link_bytes[1] for record in records])),
        memory_bytes=max(_memory_bytes(record) for record in records),
        leakage_mean=float(np.mean([record.leakage for record in records])),
        reused_fraction=float(np.mean([record.reused != "no" for record in records])),
        sim_latency_abs_pct_error=100 * float(np.median(errors)) if errors else None,
    )


def _memory_bytes(record: Record) -> int:
    return sum(memory for memory, seconds in zip(record.memory_bytes, record.breakdown.compute_s, strict=True) if seconds > 0)


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
