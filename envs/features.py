"""Observations into features: the one module that turns what is observed into the arrays a policy learns from.

`Encoder` gives `state` float32 [N, S] (STATE_FIELDS), `candidates` float32 [N, K, F] (CANDIDATE_FIELDS)
and `mask` bool [N, K].  All features are scaled by fixed, documented factors and clipped to [-5, 5];
seconds are divided by the workload's deadline (written T), so that they mean the same in any scenario.
The objective is in `cost` and `myopic_cost` already; what a cost does not tell is what a choice does to
the requests that come after it, so candidates also say what they take from each bottleneck and how much
delay that imposes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from envs.buffers import BySize, Operand
from envs.costs import CostModel
from envs.feature_field import BOUND, Field
from envs.job_features import JOB_FIELDS, TAU_FIELDS, JobEncoder
from envs.loading_features import LOADING_FIELDS, LoadingEncoder
from envs.predictor import ROWS, BoolArray, Predictor, Timeline
from envs.raw_state import ROW, RawState
from envs.timeline import INPUT, INPUTS
from runtime.messages import Observation

if TYPE_CHECKING:
    from gymnasium import spaces

__all__ = [
    "CANDIDATE_FIELDS", "DIFFICULTY_SCHEMA", "MYOPIC_INDEX", "SCHEMA", "STATE_FIELDS",
    "Encoder", "Features", "Field", "RawState", "candidate_fields", "field_table", "schema_of", "state_size",
]  # fmt: skip

Float32Array = npt.NDArray[np.float32]

SLACK_ZOOM = 4.0
"""Slack is seen this much enlarged, because what matters of it is near zero."""


STATE_FIELDS = (
    Field("device_backlog", "work on the device's queue", "T", 0, BOUND),
    Field("edge_backlog", "reported work on the edge's queue", "T", 0, BOUND),
    Field("cloud_backlog", "reported work on the cloud's queue", "T", 0, BOUND),
    Field("uplink_queue", "time until what is outstanding has crossed the uplink at its estimated rate", "T", 0, BOUND),
    Field("wan_queue", "the same for the wan", "T", 0, BOUND),
    Field("uplink_delay", "estimated one-way delay", "T", 0, BOUND),
    Field("wan_delay", "estimated one-way delay", "T", 0, BOUND),
    Field("uplink_log_rate", "ln(estimated rate / 1 MB/s)", "2", -BOUND, BOUND),
    Field("wan_log_rate", "ln(estimated rate / 1 MB/s)", "2", -BOUND, BOUND),
    Field("uplink_age", "time since the uplink's rate was measured", "2 s", 0, BOUND),
    Field("edge_age", "age of the edge's report", "T", 0, BOUND),
    Field("cloud_age", "age of the cloud's report", "T", 0, BOUND),
    Field("edge_reachable", "1 if the edge answers", "1", 0, 1),
    Field("cloud_reachable", "1 if the cloud answers", "1", 0, 1),
    Field("device_num_own", "own unfinished requests that compute on the device", "8", 0, BOUND),
    Field("edge_num_own", "own unfinished requests that compute on the edge", "8", 0, BOUND),
    Field("edge_num_waiting", "computations waiting on the edge, the neighbours' included", "16", 0, BOUND),
    Field("num_in_flight", "own unfinished requests", "16", 0, BOUND),
    Field("arrivals", "requests expected within T at the estimated arrival rate", "4", 0, BOUND),
    Field("deadline", "time the request has left", "T", 0, BOUND),
)
CANDIDATE_FIELDS = (
    Field("myopic_cost", "predicted cost above the best allowed candidate's; 5 where masked", "cost", 0, BOUND),
    Field("cost", "predicted cost; 5 where masked", "cost", 0, BOUND),
    Field("latency", "predicted latency", "T", 0, BOUND),
    Field("wait", "of that, waiting in queues", "T", 0, BOUND),
    Field("slack", "deadline - predicted latency", "T/4", -BOUND, BOUND),
    Field("miss", "predicted probability that the latency exceeds the deadline", "1", 0, 1),
    Field("uplink_s", "sending on the uplink at its estimated rate", "T", 0, BOUND),
    Field("wan_s", "sending on the wan at its estimated rate", "T", 0, BOUND),
    Field("device_imposed", "delay imposed on later requests by computing on the device", "T", 0, BOUND),
    Field("uplink_imposed", "delay imposed on later requests by occupying the uplink", "T", 0, BOUND),
    Field("edge_imposed", "delay imposed on later requests by computing on the edge", "T", 0, BOUND),
    Field("device_s", "compute on the device", "T", 0, BOUND),
    Field("edge_s", "compute on the edge", "T", 0, BOUND),
    Field("cloud_s", "compute in the cloud", "T", 0, BOUND),
    Field("error", "expected error", "1", 0, 1),
)
MYOPIC_INDEX = [field.name for field in CANDIDATE_FIELDS].index("myopic_cost")
"""Where a candidate's features hold its predicted cost above the best: minus this is the greedy heuristic's logit."""

_ERROR_INDEX = [field.name for field in CANDIDATE_FIELDS].index("error")

SCHEMA = hashlib.sha256(msgspec.json.encode([STATE_FIELDS, CANDIDATE_FIELDS])).hexdigest()[:16]
"""Digest of both tuples: a policy trained on other features has another one."""
DIFFICULTY_SCHEMA = hashlib.sha256(msgspec.json.encode([STATE_FIELDS, CANDIDATE_FIELDS, "for each input"])).hexdigest()[:16]
"""The same where costs and errors are those expected of the very input."""


def schema_of(cost_model: CostModel) -> str:
    """The digest of what an `Encoder` of this cost model computes."""
    schema = DIFFICULTY_SCHEMA if cost_model.difficulty else SCHEMA
    if cost_model.load_s:
        schema = hashlib.sha256(msgspec.json.encode([schema, LOADING_FIELDS])).hexdigest()[:16]
    if cost_model.job is None:
        return schema
    return hashlib.sha256(msgspec.json.encode([schema, JOB_FIELDS, TAU_FIELDS])).hexdigest()[:16]


def state_size(cost_model: CostModel) -> int:
    """S: numbers in the state."""
    return len(STATE_FIELDS) + (len(JOB_FIELDS) if cost_model.job is not None else 0)


def candidate_fields(cost_model: CostModel) -> tuple[Field, ...]:
    """What is said of each candidate: CANDIDATE_FIELDS, and where nodes load what they need when they need it LOADING_FIELDS."""
    return (*CANDIDATE_FIELDS, *LOADING_FIELDS) if cost_model.load_s else CANDIDATE_FIELDS


class Features(NamedTuple):
    """What a policy sees of N decisions with K candidates each."""

    state: Float32Array
    """[N, S]"""
    candidates: Float32Array
    """[N, K, F]"""
    mask: BoolArray
    """[N, K] True where the tiers that the candidate needs are reachable; device-only candidates always are."""
    taus: Float32Array | None = None
    """[N, T, G] what is to be said of each tau, where a training job runs beside."""
    tau_mask: BoolArray | None = None
    """[N, T] which of them may be chosen: all, or where none is due the job's own alone."""

    def as_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Under the names of the observation space; masks as the space's int8."""
        arrays: dict[str, npt.NDArray[Any]] = {"state": self.state, "candidates": self.candidates, "mask": self.mask.view(np.int8)}
        if self.taus is not None and self.tau_mask is not None:
            arrays |= {"taus": self.taus, "tau_mask": self.tau_mask.view(np.int8)}
        return arrays


# ---------------------------------------------------------------- how fields are made

_STATE_SCALE = {
    "uplink_log_rate": 0.5, "wan_log_rate": 0.5, "uplink_age_s": 0.5, "edge_reachable": 1.0, "cloud_reachable": 1.0,
    "device_num_own": 1 / 8, "edge_num_own": 1 / 8, "edge_num_waiting": 1 / 16, "num_in_flight": 1 / 16,
}  # fmt: skip
"""Input row -> factor, where it is not 1/T."""
_STATE_INPUT = {
    "device_backlog": "device_backlog_s", "edge_backlog": "edge_left", "cloud_backlog": "cloud_left",
    "uplink_delay": "uplink_delay_s", "wan_delay": "wan_delay_s", "arrivals": "arrival_rate_per_s",
    "uplink_age": "uplink_age_s", "edge_age": "edge_age_s", "cloud_age": "cloud_age_s", "deadline": "deadline_s",
}  # fmt: skip
"""State field -> input row, where it has another name."""

_ROW = {"latency": "latency_s", "wait": "wait_s"}
"""Candidate field -> row of the timeline, where it has another name."""
_BASIS = (*ROWS[ROWS.index("latency_s") :], "myopic_cost", "slack")
"""Rows of the timeline that candidate fields are made of; the Encoder adds the last two and clips."""
_SPARE_ROWS = len(_BASIS) - len(ROWS) + ROWS.index("latency_s")
_FIRST = ROWS.index("latency_s")
_TIMES = slice(_FIRST, ROWS.index("wait_s") + 1)
_COSTS_AND_SLACK = slice(ROWS.index("cost"), ROWS.index("cost") + 3)
_BLOCK = 6144
"""States times candidates encoded at once, to stay in the processor's cache."""
_MASKED_COST = np.float32(1e9)
_ROUNDING = 1e-6
"""Room for scaling in float32 to stay within BOUND."""
_REACHABLE = slice(ROW["edge_reachable"], ROW["cloud_reachable"] + 1)


def _state_matrix(cost_model: CostModel) -> Float32Array:
    """[INPUTS, S]: every state field is one input row scaled (and the log rates shifted)."""
    matrix = np.zeros((len(INPUTS), len(STATE_FIELDS)), np.float32)
    for column, field in enumerate(STATE_FIELDS):
        name = _STATE_INPUT.get(field.name, field.name)
        matrix[INPUT[name], column] = _STATE_SCALE.get(name, 1 / cost_model.deadline_s)
        if name.endswith("_log_rate"):
            matrix[INPUT["one"], column] = -_STATE_SCALE[name] * np.log(1e6)
        if field.name == "arrivals":
            matrix[INPUT[name], column] = cost_model.deadline_s / 4
    return matrix


def _candidate_matrix(model: CostModel) -> Float32Array:
    """[K, BASIS, F]: every candidate field is a row of the basis scaled, or static and so a multiple of `one`."""
    matrix = np.zeros((model.num_decisions, len(_BASIS), len(CANDIDATE_FIELDS)), np.float32)
    scale = {"miss": 1.0, "cost": 1.0, "myopic_cost": 1.0, "slack": SLACK_ZOOM / model.deadline_s}
    for column, field in enumerate(CANDIDATE_FIELDS):
        name = _ROW.get(field.name, field.name)
        if name in _BASIS:
            matrix[:, _BASIS.index(name), column] = scale.get(name, 1 / model.deadline_s)
        elif name == "error":
            matrix[:, _BASIS.index("one"), column] = model.mean("expected_error")
        else:
            matrix[:, _BASIS.index("one"), column] = np.minimum(model.mean(name) / model.deadline_s, BOUND)
    return matrix


class _Limits:
    """Bounds of what is clipped for N states."""

    def __init__(self, model: CostModel, num: int) -> None:
        longest_s = np.float32(BOUND * model.deadline_s * (1 - _ROUNDING))
        shape, num_times = (model.num_decisions, num), _TIMES.stop - _TIMES.start
        most = np.array([BOUND, BOUND, longest_s / SLACK_ZOOM], np.float32)[:, None, None]
        self.times = Operand(longest_s, (num_times, *shape)).refresh()
        self.costs_and_slack = Operand(most, (3, *shape)).refresh()
        self.least_slack = Operand(-most[2], shape).refresh()
        self.state = Operand(np.float32(BOUND), (num, len(STATE_FIELDS))).refresh()
        self.least_state = Operand(np.float32(-BOUND), (num, len(STATE_FIELDS))).refresh()


class Encoder:
    """Features of a cost model's decisions.  Buffers inside are reused, results are fresh: one instance per thread."""

    def __init__(self, cost_model: CostModel) -> None:
        self.cost_model = cost_model
        self._predictor = Predictor(cost_model, np.float32, _SPARE_ROWS)
        self._limits = BySize(lambda num: _Limits(cost_model, num))
        self._block = max(1, _BLOCK // cost_model.num_decisions)
        self._state_matrix = _state_matrix(cost_model)
        self._candidate_matrix = _candidate_matrix(cost_model)
        self._loading = LoadingEncoder(cost_model) if cost_model.load_s else None
        self._job = JobEncoder(cost_model.job, cost_model.deadline_s) if cost_model.job is not None else None

    @property
    def space(self) -> spaces.Dict:
        """The Gymnasium space of one decision's features."""
        from gymnasium import spaces  # nodes and the daemon encode too, and start without it

        num, fields = self.cost_model.num_decisions, STATE_FIELDS if self._job is None else (*STATE_FIELDS, *JOB_FIELDS)
        low, high = (np.array([getattr(field, side) for field in fields], np.float32) for side in ("low", "high"))
        each = candidate_fields(self.cost_model)
        each_low, each_high = (np.array([getattr(field, side) for field in each], np.float32) for side in ("low", "high"))
        return spaces.Dict(
            {
                "state": spaces.Box(low, high, dtype=np.float32),
                "candidates": spaces.Box(np.tile(each_low, (num, 1)), np.tile(each_high, (num, 1)), dtype=np.float32),
                "mask": spaces.MultiBinary(num),
                **(self._job.spaces if self._job is not None else {}),
            }
        )

    def encode(self, raw: RawState) -> Features:
        """Features of N decisions."""
        features = self._encode_requests(raw)
        if self._loading is not None:
            cold = self._loading.encode(raw.loaded, raw.matrix.shape[1])
            features = features._replace(candidates=np.concatenate((features.candidates, cold), axis=2))
        if self._job is None:
            return features
        more, taus, tau_mask = self._job.encode(raw)
        return features._replace(state=np.concatenate((features.state, more), axis=1), taus=taus, tau_mask=tau_mask)

    def _encode_requests(self, raw: RawState) -> Features:
        """What there is without a job, and with everything in memory."""
        num, num_candidates = raw.matrix.shape[1], self.cost_model.num_decisions
        features = Features(
            np.empty((num, len(STATE_FIELDS)), np.float32),
            np.empty((num, num_candidates, len(CANDIDATE_FIELDS)), np.float32),
            np.ones((num, num_candidates), np.bool_),
        )
        if num <= self._block:
            self._encode(raw, features)
            return features
        for start in range(0, num, self._block):
            block = slice(start, start + self._block)
            part = Features(features.state[block], features.candidates[block], features.mask[block])
            self._encode(raw.part(block), part)
        return features

    def encode_one(self, observation: Observation) -> Features:
        """Features of one observation: arrays with N = 1."""
        return self.encode(RawState.from_observation(observation))

    def _encode(self, raw: RawState, features: Features) -> None:
        """Fill `features`, whose mask is all ones."""
        timeline, limits = self._predictor.run(raw), self._limits[raw.matrix.shape[1]]
        state, candidates, mask = features[:3]
        np.matmul(timeline.inputs.rows.T, self._state_matrix, out=state)
        np.minimum(state, limits.state, out=state)
        np.maximum(state, limits.least_state, out=state)
        if not np.logical_and.reduce(raw.matrix[_REACHABLE], axis=None):
            np.copyto(mask, self._predictor.allowed(raw))
            np.copyto(timeline.cost, _MASKED_COST, where=~mask.T)
        self._complete(timeline, limits)
        np.matmul(timeline.rows[_FIRST:].transpose(1, 2, 0), self._candidate_matrix, out=candidates.transpose(1, 0, 2))
        if timeline.error is not None:
            np.minimum(timeline.error.T, 1.0, out=candidates[:, :, _ERROR_INDEX])

    def _complete(self, timeline: Timeline, limits: _Limits) -> None:
        """Add myopic cost and slack, and clip."""
        rows = timeline.rows
        costs_and_slack, times = rows[_COSTS_AND_SLACK], rows[_TIMES]
        cost, myopic_cost, slack = costs_and_slack
        np.subtract(cost, np.minimum.reduce(cost, axis=0), out=myopic_cost)
        np.subtract(timeline.deadlines.refresh(), timeline.latency_s, out=slack)
        np.minimum(costs_and_slack, limits.costs_and_slack, out=costs_and_slack)
        np.maximum(slack, limits.least_slack, out=slack)
        np.minimum(times, limits.times, out=times)


def field_table(fields: tuple[Field, ...]) -> str:
    """The fields as a table in the manner of Gymnasium's environment pages (reStructuredText and Markdown both show it)."""
    rows = [("Num", "Feature", "Meaning", "Unit", "Min", "Max")]
    rows += [(str(i), f.name, f.meaning, f.unit, f"{f.low:g}", f"{f.high:g}") for i, f in enumerate(fields)]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


__doc__ = f"""{__doc__}
State features:

{field_table(STATE_FIELDS)}

Candidate features:

{field_table(CANDIDATE_FIELDS)}

Where nodes load or fetch what they need when they need it also, of each candidate (envs/loading_features.py):

{field_table(LOADING_FIELDS)}

With a training job beside the requests also, of the state and of each tau (envs/job_features.py):

{field_table(JOB_FIELDS)}

{field_table(TAU_FIELDS)}
"""
