"""Everything constant about a simulated world: what decisions need, what they cost, and what stands between.

Actions are indices into the cost model's decisions.  Arrays are indexed by way (envs/ways.py): an action and an example
make one (`Answers.ways`), for it is known of each example at which exit it leaves.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
import numpy as np

from envs.costs import CostModel
from envs.difficulty import WayErrors
from envs.scenario import Scenario
from envs.simulation.frames import frames_of, watches
from envs.simulation.reuse import cache_setup, payload_questions, questions
from envs.timeline import uses_of
from envs.training_job import training_job
from envs.ways import right_answers
from envs.workload import background_decision
from runtime.errors import InvalidProfile
from runtime.models.examples import Examples
from runtime.profile import LinkProfile, Profile
from runtime.rates import FLOOR_BYTES_PER_S, ConstantRate
from runtime.topology import LinkConfig

Seconds = TypeVar("Seconds", float, np.ndarray)
"""Of one request or of many."""

COUNT_BITS = 11
"""Counts of unfinished requests (at most 1024, `Topology.max_in_flight`) share one integer, so many bits each."""
COUNT_MASK = (1 << COUNT_BITS) - 1


class Setup:
    """Constants of one (scenario, profile, decisions, split)."""

    def __init__(
        self,
        scenario: Scenario,
        profile: Profile,
        cost_model: CostModel,
        split: str,
        expected_error: bool,
        examples: Examples | None = None,
    ) -> None:
        """`examples`: the split's pictures, for a filter; None loads them where there is one."""
        topology, overheads = scenario.topology, profile.overheads
        self.scenario, self.cost_model, self.job = scenario, cost_model, training_job(scenario, profile)
        self.uplink = link_in_force(topology.uplink, profile.uplink)
        self.wan = link_in_force(topology.wan, profile.wan)
        self.result_bytes = float(profile.result_bytes)
        self.base_s, self.uplink_half_s, self.wan_half_s = overheads.base_s, overheads.uplink_s / 2, overheads.wan_s / 2
        self.deadline_s = scenario.workload.deadline_s
        self.max_in_flight = topology.max_in_flight
        self.period_s = topology.telemetry_period_s
        self.background_s = _background_s(scenario, profile)
        self.needs = needs_table(cost_model, profile, self.base_s / 2)
        objective = scenario.objective
        self.latency_cost_per_s, self.error_cost = objective.latency_per_s, objective.error
        self.failed_cost = objective.miss + objective.error
        self.receiving_cost = receiving_cost(cost_model)
        self.sending_cost_per_s = objective.energy_per_joule * topology.radio_power.base_watts
        self.answers = Answers(cost_model, profile, split, expected_error)
        decisions, num_examples = cost_model.decisions, self.answers.num_examples
        self.device_cache = cache_setup(topology.device.cache, questions(decisions, profile), profile, num_examples)
        self.edge_cache = cache_setup(topology.edge.cache, payload_questions(decisions, profile), profile, num_examples)
        self.frames = frames_of(scenario, profile, num_examples, split, examples)
        self.look_s = profile.lookup_s * (self.device_cache is not None) + profile.thumbnail_s * watches(scenario)
        """Of every accepted request, by the device for its cache, its filter, and to tell how hard it is."""
        self.difficulty = profile.predicted_errors(split) if cost_model.difficulty else None
        """float64 [predicted exits, examples], or None where inputs are not looked at for it."""
        if scenario.techniques.difficulty and profile.difficulty is not None and profile.difficulty.targets:
            self.look_s += profile.difficulty.look_s
        busy_watts = topology.compute_power.busy_watts - topology.compute_power.idle_watts
        self.busy_cost_per_s = objective.energy_per_joule * busy_watts
        """Of the device's processor: for looking at an input, and for as long as it computes before the deadline."""
        self._edge_lookup_s, self._edge_lookup_s_per_byte = profile.edge_lookup_s, profile.edge_lookup_s_per_byte

    def edge_look_s(self, num_bytes: Seconds) -> Seconds:
        """How long the edge looks at a payload for its cache; nothing without one."""
        if self.edge_cache is None:
            return 0.0 * num_bytes
        return self._edge_lookup_s + self._edge_lookup_s_per_byte * num_bytes


class Need:
    """Rows of `Setup.needs` [Need.num, V]; the first ones are copied to Row.needs of a request when it is decided.

    envs/reward.py's cost terms are taken apart by when they become due:

        started_cost    memory of the device, once it started computing before the deadline
        handed_cost     radio energy per byte, uplink bytes and leakage, once handed to the uplink
        answered_cost   memory of the tiers above and receiving, when the answer came in time
    """

    device_s, counts, edge_s, cloud_s, on_edge, goes_on, uplink_bytes, wan_bytes = range(8)
    on_device, leaves, local_s = range(8, 11)
    # local_s: from the end of the device's share to the answer; infinite for what leaves the device
    handed_cost, started_cost, answered_cost = range(11, 14)
    kept = slice(0, 8)
    num = 14


def needs_table(cost_model: CostModel, profile: Profile, base_half_s: float) -> np.ndarray:
    """What each way needs and is charged, [Need.num, V]."""
    objective, radio = cost_model.objective, cost_model.radio_power
    uses = {name: flags[:, 0] > 0 for name, flags in uses_of(cost_model).items()}
    table = np.zeros((Need.num, cost_model.num_ways))
    for name in ("device_s", "edge_s", "cloud_s", "uplink_bytes", "wan_bytes"):
        table[getattr(Need, name)] = getattr(cost_model, name)
    table[Need.on_device], table[Need.leaves], table[Need.on_edge], table[Need.goes_on] = (
        uses[name] for name in ("device", "uplink", "edge", "wan")
    )
    computes = cost_model.way_cuts[0] > 0
    table[Need.counts] = 1 + computes * 2.0**COUNT_BITS + uses["edge"] * 4.0**COUNT_BITS + uses["wan"] * 8.0**COUNT_BITS
    table[Need.local_s] = np.where(uses["uplink"], np.inf, base_half_s)
    device_bytes = uses["device"] * float(profile.memory_bytes.get("device", 0))
    per_byte = objective.energy_per_joule * radio.slope_watts_per_byte_per_s + objective.uplink_per_byte
    table[Need.started_cost] = objective.memory_per_byte * device_bytes
    table[Need.handed_cost] = per_byte * table[Need.uplink_bytes] + objective.leakage * np.array(cost_model.leakage)
    table[Need.answered_cost] = objective.memory_per_byte * (np.array(cost_model.memory_bytes) - device_bytes)
    table[Need.answered_cost] += receiving_cost(cost_model) * uses["uplink"]
    return table


def receiving_cost(cost_model: CostModel) -> float:
    """Energy of a result that comes over the uplink."""
    receiving_joules = cost_model.radio_power.around.receive_slope_watts_per_byte_per_s * cost_model.result_bytes
    return cost_model.objective.energy_per_joule * receiving_joules


class Answers:
    """Which way each example goes under each decision, and whether the answer is wrong: as measured on it, or on average."""

    def __init__(self, cost_model: CostModel, profile: Profile, split: str, expected: bool) -> None:
        self.num_examples = _num_examples(profile, split)
        of, exits = np.array(cost_model.way_decision), np.array(cost_model.way_exit)
        self._first = np.searchsorted(of, np.arange(cost_model.num_decisions))
        self._several = cost_model.num_ways > cost_model.num_decisions
        self._step = _steps(cost_model, profile, split, self.num_examples) if self._several else None
        self._expected = np.array(cost_model.expected_error) if expected else None
        self._told = profile.predicted_errors(split) if expected and cost_model.difficulty else None
        self._way_errors = WayErrors(cost_model)
        decisions = cost_model.decisions
        kinds: dict[tuple[object, ...], int] = {}
        rows: list[np.ndarray] = []
        self._start = np.empty(cost_model.num_ways, dtype=np.int64)
        for way, (decision, exit) in enumerate(zip((decisions[index] for index in of), exits.tolist(), strict=True)):
            lossless = split not in getattr(profile.variants[decision.variant].codecs.get(decision.codec), "correct", {})
            key = (decision.variant, exit) if lossless else (decision.variant, exit, decision.codec, decision.cuts)
            if key not in kinds:
                kinds[key] = len(rows)
                rows.append(1.0 - right_answers(profile, decision, exit, split))
            self._start[way] = kinds[key] * self.num_examples
        self._wrong = np.concatenate(rows)

    def ways(self, actions: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """The way that each request goes, int64 [N]."""
        if self._step is None:
            return actions
        ways: np.ndarray = self._first[actions] + self._step[actions, examples]
        return ways

    def wrong(self, ways: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """1.0 where the answer is wrong (or its probability, given what is told of the example), [N]."""
        if self._told is not None:
            return self._way_errors.of(ways, self._told[:, examples])
        wrong: np.ndarray = self._wrong[self._start[ways] + examples] if self._expected is None else self._expected[ways]
        return wrong


def _num_examples(profile: Profile, split: str) -> int:
    """Raises InvalidProfile unless every variant was judged on the same examples of the split."""
    sizes = {len(bits) for info in profile.variants.values() for bits in info.correct.get(split, ("",))}
    if len(sizes) != 1 or 0 in sizes:
        raise InvalidProfile(f"the profile's {split!r} split has example counts {sorted(sizes)}, needs the same one for all exits")
    return sizes.pop()


def _steps(cost_model: CostModel, profile: Profile, split: str, num_examples: int) -> np.ndarray:
    """uint8 [D, examples]: which of the decision's ways each example goes; ways are in order of exit, from 0."""
    steps = np.zeros((cost_model.num_decisions, num_examples), dtype=np.uint8)
    for index, decision in enumerate(cost_model.decisions):
        if decision.early_exit:
            steps[index] = np.minimum(profile.exits_taken(decision.variant, split), decision.exit)
    return steps


def link_in_force(config: LinkConfig, measured: LinkProfile) -> LinkConfig:
    """The link's emulation, or for a real link constants from its profile."""
    if config.emulated:
        return config
    rate = ConstantRate(bytes_per_s=max(measured.rate_bytes_per_s, FLOOR_BYTES_PER_S))
    return msgspec.structs.replace(config, rate=rate, down_rate=rate, delay_s=measured.delay_s, jitter_s=0.0)


def _background_s(scenario: Scenario, profile: Profile) -> float:
    """Edge seconds of one neighbour's job.  Raises InvalidProfile when its variant was not profiled."""
    job = background_decision(scenario.background, profile.model, profile.exit_ends)
    info = profile.variants.get(job.variant)
    if info is None:
        raise InvalidProfile(f"background variant {job.variant!r} was not profiled; there is {sorted(profile.variants)}")
    return sum(info.stage_s["edge"][: profile.end(job)]) + info.head_s["edge"][job.exit]
