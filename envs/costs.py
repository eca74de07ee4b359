"""The cost model: static facts of every candidate decision, enough to predict it without profile or scenario.

Measure (runtime/profile.py), model (here, by envs/ways.py), predict (envs/predictor.py) are three things.  A decision
with cuts (p, q) and exit ending after `end` stages

    runs [0,p) on the device      if p > 0
    crosses the uplink at cut p   if p < end        then the result crosses it back
    runs [p,q) on the edge        if p < q          (p == q < end: the edge only relays)
    crosses the wan at cut q      if q < end        then the result crosses it back
    runs [q,end) in the cloud     if q < end

and the exit's head runs with the last stage.  Facts are of ways: a decision with early exit has several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from envs.job_traits import JobTraits
from envs.loading_features import decision_load_s
from envs.reward import Objective
from envs.scenario import NO_TECHNIQUES, Scenario, Techniques
from envs.training_job import training_job
from envs.ways import FACTS, ways_of
from runtime.energy import ComputePower, RadioPower
from runtime.errors import InvalidDecision, InvalidProfile
from runtime.messages import TIERS, Decision
from runtime.profile import LinkProfile, Overheads, Profile
from runtime.rates import draw_trace
from runtime.topology import LinkConfig

PER_WAY = ("way_decision", "way_exit", "way_share", *FACTS)
"""The fields of CostModel that have one entry per way (envs/ways.py)."""

_DOWN_RATE_SEEDS = range(4)
"""A down rate that varies is represented by its median over these realisations."""


class PredictedExit(msgspec.Struct, frozen=True, kw_only=True):
    """An exit of which observations say how likely it errs on their input."""

    variant: str
    exit: int
    error: float
    """Its measured average, without codec and early exit."""

    def __post_init__(self) -> None:
        if not 0 <= self.error <= 1:
            raise InvalidProfile(f"the error of {self.variant}, exit {self.exit}, must be in 0..1, got {self.error}")


class CostModel(msgspec.Struct, frozen=True, kw_only=True, dict=True, omit_defaults=True):
    """Everything static that predicting D decisions of V ways needs.  Plain data; encodes to JSON and back unchanged.

    Raises InvalidProfile when built from lists of different lengths, from exits that there are not, from numbers that are not
    finite and >= 0, or from shares and errors that are none.
    """

    model: str
    exit_ends: tuple[int, ...]
    """Number of stages each exit needs, rising; the last is the full model."""
    decisions: tuple[Decision, ...]
    way_decision: tuple[int, ...]
    """[V] index of the decision, rising; each has at least one."""
    way_exit: tuple[int, ...]
    """[V] the exit at which a request that goes this way leaves."""
    way_share: tuple[float, ...]
    """[V] how many of the decision's requests do, measured on `split`."""
    device_s: tuple[float, ...]
    """[V] compute seconds on the device: stages, heads, encoding."""
    edge_s: tuple[float, ...]
    cloud_s: tuple[float, ...]
    uplink_bytes: tuple[float, ...]
    """[V] bytes on the wire away from the device, header included; 0 when nothing leaves it."""
    wan_bytes: tuple[float, ...]
    expected_error: tuple[float, ...]
    """[V] 1 - measured accuracy on `split`."""
    leakage: tuple[float, ...]
    """[V] what leaves the device: 1 raw input, 0 nothing."""
    memory_bytes: tuple[float, ...]
    """[V] peak resident set of the tiers that compute, summed."""
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
    difficulty: tuple[PredictedExit, ...] = ()
    """What `Observation.difficulty` is of, in its order; empty: errors do not depend on the input.  Left out of the JSON then,
    so that bundles keep their digests."""
    job: JobTraits | None = None
    """What trains beside the requests, and the taus that a controller may choose; None, and left out: nothing does."""
    load_s: tuple[tuple[float, float, float], ...] = ()
    """[D] seconds in which device, edge and cloud load their share; empty, and left out: everything is in memory for good."""

    def __post_init__(self) -> None:
        if sorted(set(self.way_decision)) != list(range(len(self.decisions))) or not self.decisions:
            known = len(set(self.way_decision))
            raise InvalidProfile(f"a cost model needs decisions, each with a way of its own; got {len(self.decisions)}, ways of {known}")
        for name in PER_WAY:
            values = getattr(self, name)
            if len(values) != len(self.way_decision):
                raise InvalidProfile(f"cost model: {name} has {len(values)} entries for {len(self.way_decision)} ways, needs one each")
            if not all(math.isfinite(value) and value >= 0 for value in values):
                raise InvalidProfile(f"cost model: every {name} must be finite and >= 0")
        self._check_exits()
        self._check_shares()
        if len(self.load_s) not in (0, len(self.decisions)):
            raise InvalidProfile(
                f"cost model: load_s has {len(self.load_s)} entries for {len(self.decisions)} decisions, needs one each or none"
            )
        if not all(math.isfinite(value) and value >= 0 for values in self.load_s for value in values):
            raise InvalidProfile("cost model: every load_s must be finite and >= 0")
        for name in ("uplink_down_bytes_per_s", "wan_down_bytes_per_s", "deadline_s", "peer_timeout_s"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidProfile(f"cost model: {name} must be finite and > 0, got {getattr(self, name)}")
        for name, value in (("result_bytes", self.result_bytes), *msgspec.structs.asdict(self.overheads).items()):
            if not (math.isfinite(value) and value >= 0):
                raise InvalidProfile(f"cost model: {name} must be finite and >= 0, got {value}")

    def _check_exits(self) -> None:
        num_exits = len(self.exit_ends)
        if num_exits == 0 or self.exit_ends[0] < 1 or list(self.exit_ends) != sorted(set(self.exit_ends)):
            raise InvalidProfile(f"cost model: exit_ends must rise from at least 1, got {self.exit_ends}")
        last = max(*self.way_exit, *(decision.exit for decision in self.decisions))
        if last >= num_exits:
            raise InvalidProfile(f"cost model: exit {last} does not exist; exits are 0..{num_exits - 1}")

    def _check_shares(self) -> None:
        if list(self.way_decision) != sorted(self.way_decision):
            raise InvalidProfile("cost model: way_decision must rise")
        shares = np.bincount(np.array(self.way_decision), np.array(self.way_share))
        if not np.allclose(shares, 1.0, rtol=0, atol=1e-6):
            worst = int(np.abs(shares - 1.0).argmax())
            raise InvalidProfile(f"cost model: the shares of a decision's ways sum to 1; those of decision {worst} to {shares[worst]:g}")
        if max(self.expected_error) > 1:
            raise InvalidProfile(f"cost model: an expected_error is a probability, got {max(self.expected_error):g}")

    @property
    def num_decisions(self) -> int:
        """D."""
        return len(self.decisions)

    def find(self, decision: Decision) -> int:
        """Index of a decision; its tau, which concerns the training job alone, does not matter.

        Raises InvalidDecision when it is not one of these.
        """
        try:
            return self._index[decision if decision.tau is None else msgspec.structs.replace(decision, tau=None)]
        except KeyError:
            raise InvalidDecision(f"{decision.label()} of {decision.model!r} is not among these {self.num_decisions} decisions") from None

    @property
    def num_ways(self) -> int:
        """V: D when no decision may leave early."""
        return len(self.way_decision)

    @cached_property
    def mixture(self) -> np.ndarray:
        """float64 [D, V]: the share of each way in each decision; what is linear in ways has its mean by it."""
        mixture = np.zeros((self.num_decisions, self.num_ways))
        mixture[np.array(self.way_decision), np.arange(self.num_ways)] = self.way_share
        return mixture

    def mean(self, fact: str) -> np.ndarray:
        """float64 [D]: a decision's mean of one of FACTS over its ways."""
        mean: np.ndarray = self.mixture @ np.array(getattr(self, fact))
        return mean

    @cached_property
    def way_ends(self) -> np.ndarray:
        """int64 [V]: stages that each way runs."""
        ends: np.ndarray = np.array(self.exit_ends)[np.array(self.way_exit)]
        return ends

    @cached_property
    def way_cuts(self) -> np.ndarray:
        """int64 [2, V]: p and q of each way's decision."""
        return np.array([decision.cuts for decision in self.decisions]).T[:, np.array(self.way_decision)]

    def restrict(self, decisions: Sequence[Decision]) -> CostModel:
        """The same model of fewer decisions, in the order given.  Raises InvalidDecision for one it does not have."""
        keep = [self.find(decision) for decision in decisions]
        of = np.array(self.way_decision)
        ways = [(new, way) for new, old in enumerate(keep) for way in np.flatnonzero(of == old).tolist()]
        columns = {name: tuple(getattr(self, name)[way] for _, way in ways) for name in PER_WAY[1:]}
        load_s = tuple(self.load_s[index] for index in keep) if self.load_s else ()
        return msgspec.structs.replace(
            self, decisions=tuple(decisions), way_decision=tuple(new for new, _ in ways), load_s=load_s, **columns
        )

    @cached_property
    def _index(self) -> dict[Decision, int]:
        return {decision: index for index, decision in enumerate(self.decisions)}


def legal_decisions(profile: Profile, techniques: Techniques = NO_TECHNIQUES) -> tuple[Decision, ...]:
    """Every variant, exit and pair of cuts 0 <= p <= q <= end, in that order of loops; S=7 with exits 3, 5, 7 has 67 per variant.

    With techniques each also with every codec where something crosses a link, and with early exit where there are exits before it.
    """
    return tuple(
        Decision(model=profile.model, variant=variant, cuts=(p, q), exit=exit, early_exit=early, codec=codec)
        for variant in profile.variants
        for exit, end in enumerate(profile.exit_ends)
        for early in ((False, True) if techniques.early_exit and exit > 0 else (False,))
        for p in range(end + 1)
        for q in range(p, end + 1)
        for codec in (techniques.codecs if p < end else ("identity",))
    )


def build_cost_model(
    profile: Profile, scenario: Scenario, decisions: Sequence[Decision] | None = None, split: str = "validation"
) -> CostModel:
    """Static facts of `decisions` (default: all legal ones) from measured times, bytes and accuracy.

    Raises InvalidProfile when the profile lacks the model, the split, a tier, or what it takes to know how hard inputs are or to load,
    and InvalidDecision for a decision that the profiled model cannot carry out.
    """
    if profile.model != scenario.model:
        raise InvalidProfile(f"the profile is of model {profile.model!r}, the scenario runs {scenario.model!r}; profile that model")
    _check_profile(profile, split)
    chosen = legal_decisions(profile, scenario.techniques) if decisions is None else tuple(decisions)
    for decision in chosen:
        _check_decision(profile, decision)
    ways = [(index, *way) for index, decision in enumerate(chosen) for way in ways_of(profile, decision, split)]
    columns = zip(*ways, strict=True) if ways else [()] * len(PER_WAY)
    per_way: dict[str, Any] = dict(zip(PER_WAY, map(tuple, columns), strict=True))
    topology, job = scenario.topology, training_job(scenario, profile)
    return CostModel(
        model=profile.model,
        exit_ends=profile.exit_ends,
        decisions=chosen,
        **per_way,
        split=split,
        result_bytes=float(profile.result_bytes),
        overheads=_overheads(profile, scenario),
        uplink=profile.uplink,
        wan=profile.wan,
        uplink_down_bytes_per_s=_down_rate(topology.uplink, profile.uplink, "uplink"),
        wan_down_bytes_per_s=_down_rate(topology.wan, profile.wan, "wan"),
        objective=scenario.objective,
        compute_power=topology.compute_power,
        radio_power=topology.radio_power,
        peer_timeout_s=topology.peer_timeout_s,
        deadline_s=scenario.workload.deadline_s,
        difficulty=_predicted_exits(profile, split) if scenario.techniques.difficulty else (),
        job=job.traits if job is not None else None,
        load_s=_load_s(profile, chosen) if any(map(topology.loads_late, TIERS)) else (),
    )


def _load_s(profile: Profile, decisions: Sequence[Decision]) -> tuple[tuple[float, float, float], ...]:
    loading = profile.needed_loading()
    return tuple(decision_load_s(loading, decision, profile.end(decision)) for decision in decisions)


def _overheads(profile: Profile, scenario: Scenario) -> Overheads:
    """The profile's, and looking at inputs where there is something to be told."""
    if not scenario.techniques.difficulty or profile.difficulty is None or not profile.difficulty.targets:
        return profile.overheads
    return msgspec.structs.replace(profile.overheads, base_s=profile.overheads.base_s + profile.difficulty.look_s)


def _predicted_exits(profile: Profile, split: str) -> tuple[PredictedExit, ...]:
    if profile.difficulty is None:
        raise InvalidProfile(
            f"the scenario looks at how hard inputs are, the profile of {profile.model!r} knows nothing of it;"
            " measure it again with `drlctl profile`, or switch techniques.difficulty off"
        )
    return tuple(
        PredictedExit(variant=variant, exit=exit, error=1.0 - profile.variants[variant].accuracy[split][exit])
        for variant, exit in profile.difficulty.targets
    )


def _check_decision(profile: Profile, decision: Decision) -> None:
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
    if decision.codec not in ("identity", *variant.codecs):
        raise InvalidDecision(f"codec {decision.codec!r} was not profiled; there is {', '.join(('identity', *variant.codecs))}")


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
