"""The cost model: static facts of every candidate decision, enough to predict it without profile or scenario.

Measure (runtime/profile.py), model (here), predict (envs/predictor.py) are three things.  A decision
with cuts (p, q) and exit ending after `end` stages

    runs [0,p) on the device      if p > 0
    crosses the uplink at cut p   if p < end        then the result crosses it back
    runs [p,q) on the edge        if p < q          (p == q < end: the edge only relays)
    crosses the wan at cut q      if q < end        then the result crosses it back
    runs [q,end) in the cloud     if q < end

and the exit's head runs with the last stage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import msgspec
import numpy as np

from envs.reward import Objective
from envs.scenario import Scenario
from runtime.energy import ComputePower, RadioPower
from runtime.errors import InvalidDecision, InvalidProfile
from runtime.messages import TIERS, Decision
from runtime.profile import LinkProfile, Overheads, Profile, VariantProfile
from runtime.rates import draw_trace
from runtime.topology import LinkConfig

PER_DECISION = ("decisions", "device_s", "edge_s", "cloud_s", "uplink_bytes", "wan_bytes", "expected_error", "leakage", "memory_bytes")
"""The fields of CostModel that have one entry per decision."""

_DOWN_RATE_SEEDS = range(4)
"""A down rate that varies is represented by its median over these realisations."""


class CostModel(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Everything static that predicting D decisions needs.  Plain data; encodes to JSON and back unchanged.

    Raises InvalidProfile when built from lists of different lengths or from numbers that are not finite and >= 0.
    """

    model: str
    exit_ends: tuple[int, ...]
    """Number of stages each exit needs, rising; the last is the full model."""
    decisions: tuple[Decision, ...]
    device_s: tuple[float, ...]
    """[D] compute seconds on the device, the head included when it runs there."""
    edge_s: tuple[float, ...]
    cloud_s: tuple[float, ...]
    uplink_bytes: tuple[float, ...]
    """[D] bytes on the wire away from the device, header included; 0 when nothing leaves it."""
    wan_bytes: tuple[float, ...]
    expected_error: tuple[float, ...]
    """[D] 1 - measured accuracy of (variant, exit) on `split`."""
    leakage: tuple[float, ...]
    """[D] what leaves the device: 1 raw input, 0 nothing."""
    memory_bytes: tuple[float, ...]
    """[D] peak resident set of the tiers that compute, summed."""
    split: str
    """The split that expected_error was measured on."""
    result_bytes: float
    overheads: Overheads
    uplink: LinkProfile
    """Measured while idle; what a policy assumes before it has seen the link."""
    wan: LinkProfile
    uplink_down_bytes_per_s: float
    """Nominal rate towards the device."""
    wan_down_bytes_per_s: float
    objective: Objective
    compute_power: ComputePower
    radio_power: RadioPower
    peer_timeout_s: float
    deadline_s: float
    """The workload's usual deadline; each observation brings its own."""

    def __post_init__(self) -> None:
        for name in PER_DECISION:
            values = getattr(self, name)
            if len(values) != len(self.decisions) or not values:
                raise InvalidProfile(f"cost model: {name} has {len(values)} entries for {len(self.decisions)} decisions, needs one each")
            if name != "decisions" and not all(math.isfinite(value) and value >= 0 for value in values):
                raise InvalidProfile(f"cost model: every {name} must be finite and >= 0")
        for name in ("uplink_down_bytes_per_s", "wan_down_bytes_per_s", "deadline_s", "peer_timeout_s"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidProfile(f"cost model: {name} must be finite and > 0, got {getattr(self, name)}")

    @property
    def num_decisions(self) -> int:
        """D."""
        return len(self.decisions)

    def find(self, decision: Decision) -> int:
        """Index of a decision.  Raises InvalidDecision when it is not one of these."""
        try:
            return self._index[decision]
        except KeyError:
            raise InvalidDecision(f"{decision.label()} of {decision.model!r} is not among these {self.num_decisions} decisions") from None

    def restrict(self, decisions: Sequence[Decision]) -> CostModel:
        """The same model of fewer decisions, in the order given.  Raises InvalidDecision for one it does not have."""
        keep = [self.find(decision) for decision in decisions]
        return msgspec.structs.replace(self, **{name: tuple(getattr(self, name)[i] for i in keep) for name in PER_DECISION})

    @cached_property
    def _index(self) -> dict[Decision, int]:
        return {decision: index for index, decision in enumerate(self.decisions)}


def legal_decisions(profile: Profile) -> tuple[Decision, ...]:
    """Every variant, exit and pair of cuts 0 <= p <= q <= end, in that order of loops; S=7 with exits 3, 5, 7 has 67 per variant."""
    return tuple(
        Decision(model=profile.model, variant=variant, cuts=(p, q), exit=exit)
        for variant in profile.variants
        for exit, end in enumerate(profile.exit_ends)
        for p in range(end + 1)
        for q in range(p, end + 1)
    )


def build_cost_model(
    profile: Profile, scenario: Scenario, decisions: Sequence[Decision] | None = None, split: str = "validation"
) -> CostModel:
    """Static facts of `decisions` (default: all legal ones) from measured times, bytes and accuracy.

    Raises InvalidProfile when the profile lacks the model, the split or a tier, and InvalidDecision
    for a decision that the profiled model cannot carry out.
    """
    if profile.model != scenario.model:
        raise InvalidProfile(f"the profile is of model {profile.model!r}, the scenario runs {scenario.model!r}; profile that model")
    _check_profile(profile, split)
    chosen = legal_decisions(profile) if decisions is None else tuple(decisions)
    rows = [_facts(profile, decision, split) for decision in chosen]
    columns = dict(zip(PER_DECISION[1:], map(tuple, zip(*rows, strict=True)), strict=True)) if rows else {}
    topology = scenario.topology
    return CostModel(
        model=profile.model,
        exit_ends=profile.exit_ends,
        decisions=chosen,
        **(columns or dict.fromkeys(PER_DECISION[1:], ())),
        split=split,
        result_bytes=float(profile.result_bytes),
        overheads=profile.overheads,
        uplink=profile.uplink,
        wan=profile.wan,
        uplink_down_bytes_per_s=_down_rate(topology.uplink, profile.uplink, "uplink"),
        wan_down_bytes_per_s=_down_rate(topology.wan, profile.wan, "wan"),
        objective=scenario.objective,
        compute_power=topology.compute_power,
        radio_power=topology.radio_power,
        peer_timeout_s=topology.peer_timeout_s,
        deadline_s=scenario.workload.deadline_s,
    )


def _facts(profile: Profile, decision: Decision, split: str) -> tuple[float, ...]:
    """One decision's numbers, in the order of PER_DECISION after the decision itself."""
    variant, end = _check_decision(profile, decision)
    p, q = decision.cuts
    bounds = (0, p, q, end)
    compute_s = [sum(variant.stage_s[tier][bounds[index] : bounds[index + 1]], 0.0) for index, tier in enumerate(TIERS)]
    last = 0 if p == end else 1 if q == end else 2
    compute_s[last] += variant.head_s[TIERS[last]][decision.exit]
    used = [bounds[index] < bounds[index + 1] for index in range(len(TIERS))]
    return (
        *compute_s,
        float(variant.cut_bytes[p]) if p < end else 0.0,
        float(variant.cut_bytes[q]) if q < end else 0.0,
        1.0 - variant.accuracy[split][decision.exit],
        variant.leakage[p] if p < end else 0.0,
        float(sum(profile.memory_bytes.get(tier, 0) for tier, uses in zip(TIERS, used, strict=True) if uses)),
    )


def _check_decision(profile: Profile, decision: Decision) -> tuple[VariantProfile, int]:
    variant = profile.variants.get(decision.variant)
    if decision.model != profile.model or variant is None:
        raise InvalidDecision(
            f"{decision.variant!r} of {decision.model!r} was not profiled; there is {sorted(profile.variants)} of {profile.model!r}"
        )
    if decision.exit >= len(profile.exit_ends):
        raise InvalidDecision(f"exit {decision.exit} does not exist; exits are 0..{len(profile.exit_ends) - 1}")
    end = profile.exit_ends[decision.exit]
    if decision.cuts[1] > end:
        raise InvalidDecision(f"cuts {decision.cuts} go past exit {decision.exit}, which ends after {end} stages")
    if decision.codec != "identity":
        raise InvalidDecision(f"codec {decision.codec!r} was not profiled; there is 'identity'")
    return variant, end


def _check_profile(profile: Profile, split: str) -> None:
    stages, exits = profile.num_stages, len(profile.exit_ends)
    for name, variant in profile.variants.items():
        if split not in variant.accuracy:
            raise InvalidProfile(f"variant {name!r} has no accuracy on split {split!r}; there is {sorted(variant.accuracy)}")
        sizes = [(len(variant.cut_bytes), stages + 1), (len(variant.leakage), stages + 1), (len(variant.accuracy[split]), exits)]
        for tier in TIERS:
            sizes += [(len(variant.stage_s.get(tier, ())), stages), (len(variant.head_s.get(tier, ())), exits)]
        if any(got != expected for got, expected in sizes):
            raise InvalidProfile(f"variant {name!r} does not have {stages} stages, {stages + 1} cuts and {exits} exits on every tier")


def _down_rate(config: LinkConfig, measured: LinkProfile, link: str) -> float:
    """Median bytes per second towards the device: the emulation's, or on a real link the measured rate of the other direction."""
    if not config.emulated:
        return max(measured.rate_bytes_per_s, 1.0)
    return float(np.median([draw_trace(config.down_rate, seed, link, "down") for seed in _DOWN_RATE_SEEDS]))
