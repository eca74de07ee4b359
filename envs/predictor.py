"""What each of D decisions would cost in each of N observed states: one timeline for all, without a loop.

A request meets up to five queues; between them its time is a sum of known pieces:

    device --- uplink --- edge --- wan --- cloud --- back down

    arrival at queue k = pieces before it + waits before it
    wait at queue k    = max(0, backlog of queue k now - arrival at queue k)

so a request that first spends 30 ms on the device finds the edge's backlog 30 ms smaller.  A node's
reported backlog is taken as it was reported, however old: on a queue that others share, new work replaces
what drained meanwhile.  (Measured on the congested scenario: greedy that subtracts the report's age pays
about half as much again, for it runs to wherever the news is oldest.)  The device's own queue is wholly ahead of it.
`overheads.base_s` lies partly before the observation and partly after the answer, so it delays no arrival.

All waits up to queue k together are V(k) = V(k-1) + max(0, late(k) - V(k-1)) = max(V(k-1), late(k)), where
late(k) is queue k's backlog less the pieces before it.  So a request waits as long as its latest queue
says: one matrix product (envs/timeline.py) and one maximum make the latency.

All this is worked out for each way of a decision (envs/ways.py); a decision's latency, probability of a miss and cost
are the means over its ways.

A predicted miss is charged as the runtime does it: failed at its deadline, no answer, so a wrong one.  What is handed to
the uplink is sent to its end, deadline or not, and the radio's energy is that of all of it; a predicted miss counts as handed.

Arrays are laid out [term, V or D, N] inside, long contiguous rows of states; results are [N, D].
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from envs.buffers import BySize, Operand
from envs.costs import CostModel
from envs.difficulty import WayErrors
from envs.raw_state import FloatArray, RawState
from envs.reward import TERMS, Objective
from envs.timeline import COLUMNS, LINEAR, Inputs, linear_terms, uses_of
from runtime.energy import request_energy_joules
from runtime.messages import Observation

BoolArray = npt.NDArray[np.bool_]

CHARGES = ("charged", "sending", "one", "miss")
"""What a cost is linear in: latency up to the deadline, sending on the uplink, 1, predicted miss."""

_BLOCK = 1 << 16
"""`predict` works on about so many (state, decision) pairs at once, to stay in the processor's cache."""


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions for N states and D decisions, float64 [N, D]; from `predict_one` [D].

    latency_s = overheads.base_s + device_s + uplink_s + edge_s + wan_s + cloud_s, each with its waiting.
    """

    latency_s: FloatArray
    miss: FloatArray
    """Probability of it: 1.0 where the predicted latency exceeds the deadline, between where only some ways do."""
    energy_joules: FloatArray
    cost: FloatArray
    """Expected sum of envs/reward.py's terms, for this very input where the observation tells how hard it is."""
    allowed: BoolArray
    """False where the decision needs an unreachable tier; the predictions there are finite and mean nothing."""
    device_s: FloatArray
    uplink_s: FloatArray
    """Waiting, sending, delay both ways, overhead, and the result's way back; wan_s alike."""
    edge_s: FloatArray
    wan_s: FloatArray
    cloud_s: FloatArray
    wait_s: FloatArray
    """Waiting in all five queues."""
    sending_s: FloatArray
    """How long the uplink would be busy with it."""
    imposed_s: FloatArray
    """Delay imposed on later requests at device, uplink and edge (envs/timeline.py)."""


ROWS = (*LINEAR, "wait_s", *CHARGES, "cost")
"""What a timeline holds of every decision in every state."""
_AT = {name: index for index, name in enumerate(ROWS)}


class Timeline:
    """What a run left in reused buffers; valid until the next run with the same N."""

    def __init__(self, num_rows: int, num: int, dtype: npt.DTypeLike, spare_rows: int, inputs: Inputs | None = None) -> None:
        self.inputs = inputs or Inputs(num, dtype)
        self.rows: FloatArray = np.ones((len(ROWS) + spare_rows, num_rows, num), dtype)
        """[ROWS, then the caller's; V or D, N]"""
        self.linear = self.rows[: len(LINEAR)].reshape(-1, num)
        self.late_s = self.rows[: _AT["cloud_late"] + 1]
        self.latency_s, self.wait_s, self.miss, self.cost = (self.rows[_AT[name]] for name in ("latency_s", "wait_s", "miss", "cost"))
        self.charged, self.sending = self.rows[_AT["charged"]], self.rows[_AT["sending"]]
        self.charges = self.rows[_AT["charged"] : _AT["miss"] + 1]
        self.charges_by_decision, self.cost_by_decision = self.charges.transpose(1, 0, 2), self.cost[:, None]
        self.imposed_s = self.rows[_AT["device_imposed"] : _AT["edge_imposed"] + 1]
        self.deadlines = Operand(self.inputs["deadline_s"], self.latency_s.shape)
        self.late: BoolArray = np.empty((num_rows, num), np.bool_)
        self.error: FloatArray | None = None
        """[V or D, N]: P(wrong) for each input; None where it does not depend on it."""

    def __getitem__(self, name: str) -> FloatArray:
        """The row of that name, [V or D, N]."""
        row: FloatArray = self.rows[_AT[name]]
        return row


class Predictor:
    """Predicts a cost model's decisions.  Buffers are reused: one instance per thread."""

    def __init__(self, cost_model: CostModel, dtype: npt.DTypeLike = np.float64, spare_rows: int = 0) -> None:
        """`dtype` of the arithmetic; `spare_rows` are kept behind those of `Timeline` for the caller."""
        self.cost_model = cost_model
        self.charge_terms = charge_terms(cost_model)
        self.uses = uses_of(cost_model)
        self._dtype = np.dtype(dtype)
        self._mixture = cost_model.mixture.astype(dtype) if cost_model.num_ways > cost_model.num_decisions else None
        way_spare_rows = spare_rows if self._mixture is None else 0
        self._ways = BySize(lambda num: Timeline(cost_model.num_ways, num, dtype, way_spare_rows))
        self._mixed = BySize(lambda num: Timeline(cost_model.num_decisions, num, dtype, spare_rows, self._ways[num].inputs))
        self._linear = linear_terms(cost_model).reshape(-1, len(COLUMNS)).astype(dtype)
        self._charge_weights = (self.charge_terms @ weights_of(cost_model.objective))[:, None, :].astype(dtype)
        self._stays_home, self._stays_near = _stays(cost_model)
        self._way_errors = WayErrors(cost_model, self._dtype) if cost_model.difficulty else None
        self._way_error = np.array(cost_model.expected_error, dtype)[:, None]

    def run(self, raw: RawState) -> Timeline:
        """Latency, waits, miss and cost of every decision in N states, in this instance's buffers [., D, N]."""
        ways = self.run_ways(raw)
        if self._mixture is None:
            return ways
        mixed = self._mixed[raw.matrix.shape[1]]
        np.matmul(self._mixture, ways.rows, out=mixed.rows[: len(ROWS)])
        mixed.error = self._mixture @ ways.error if ways.error is not None else None
        return mixed

    def run_ways(self, raw: RawState) -> Timeline:
        """The same of every way, [., V, N]."""
        timeline = self._ways[raw.matrix.shape[1]]
        timeline.inputs.fill(raw.matrix)
        np.matmul(self._linear, timeline.inputs.columns, out=timeline.linear)
        np.maximum.reduce(timeline.late_s, axis=0, out=timeline.wait_s)
        np.add(timeline.latency_s, timeline.wait_s, out=timeline.latency_s)
        deadlines = timeline.deadlines.refresh()
        np.greater(timeline.latency_s, deadlines, out=timeline.late)
        np.copyto(timeline.miss, timeline.late)
        np.minimum(timeline.latency_s, deadlines, out=timeline.charged)
        np.copyto(timeline.sending, timeline["uplink_s"])
        np.matmul(self._charge_weights, timeline.charges_by_decision, out=timeline.cost_by_decision)
        timeline.error = self.way_errors(raw)
        if timeline.error is not None:
            timeline.cost += self.cost_model.objective.error * self.error_change(timeline)
        return timeline

    def way_errors(self, raw: RawState) -> FloatArray | None:
        """[V, N]: P(wrong) of every way for each input; None where no input was looked at.

        Raises InvalidInput when the states tell of other exits than the cost model knows.
        """
        return self._way_errors.all(raw.difficulty) if self._way_errors is not None and raw.difficulty is not None else None

    def error_change(self, timeline: Timeline) -> FloatArray:
        """[V, N]: by how much the expected error for the input differs from the average; a predicted miss is wrong whatever it is."""
        assert timeline.error is not None
        change: FloatArray = (timeline.error - self._way_error) * (1 - timeline.miss)
        return change

    def allowed(self, raw: RawState) -> BoolArray:
        """bool [N, D]: the tiers that the decision needs are reachable."""
        edge, cloud = raw.edge_reachable > 0, raw.cloud_reachable > 0
        allowed: BoolArray = ((edge | self._stays_home) & (cloud | self._stays_near)).T
        return allowed

    def predict(self, raw: RawState) -> Prediction:
        """Everything about N states, in fresh arrays [N, D]."""
        num, num_decisions = len(raw), self.cost_model.num_decisions
        step = max(1, _BLOCK // num_decisions)
        names = [name for name in Prediction.__struct_fields__ if name != "allowed"]
        fields: dict[str, Any] = {name: np.empty((num, num_decisions), self._dtype) for name in names}
        for start in range(0, num, step):
            block = raw.part(slice(start, start + step))
            for name, values in self._parts(self.run_ways(block)).items():
                fields[name][start : start + step] = (values if self._mixture is None else self._mixture @ values).T
        return Prediction(allowed=self.allowed(raw), **fields)

    def predict_one(self, observation: Observation) -> Prediction:
        """Everything about one observation, arrays [D]."""
        prediction = self.predict(RawState.from_observation(observation))
        return Prediction(**{name: getattr(prediction, name)[0] for name in Prediction.__struct_fields__})

    def _parts(self, timeline: Timeline) -> dict[str, FloatArray]:
        """The fields of Prediction for ways, [V, N]."""
        model, inputs = self.cost_model, timeline.inputs
        compute = {name: np.array(getattr(model, name))[:, None] for name in ("device_s", "edge_s", "cloud_s")}
        waits = np.diff(np.maximum.accumulate(timeline.late_s), axis=0, prepend=0.0)
        uplink_s = 2 * inputs["uplink_delay_s"] + model.overheads.uplink_s + model.result_bytes / model.uplink_down_bytes_per_s
        wan_s = 2 * inputs["wan_delay_s"] + model.overheads.wan_s + model.result_bytes / model.wan_down_bytes_per_s
        joules = np.einsum("dc,cdn->dn", self.charge_terms[:, :, TERMS.index("energy")], timeline.charges)
        return {
            "latency_s": timeline.latency_s,
            "miss": timeline.miss,
            "energy_joules": joules,
            "cost": timeline.cost,
            "device_s": waits[0] + compute["device_s"],
            "uplink_s": waits[1] + timeline["uplink_s"] + self.uses["uplink"] * uplink_s,
            "edge_s": waits[2] + compute["edge_s"],
            "wan_s": waits[3] + timeline["wan_s"] + self.uses["wan"] * wan_s,
            "cloud_s": waits[4] + compute["cloud_s"],
            "wait_s": timeline.wait_s,
            "sending_s": timeline["uplink_s"],
            "imposed_s": timeline.imposed_s.sum(axis=0),
        }


def _stays(cost_model: CostModel) -> tuple[BoolArray, BoolArray]:
    """bool [D, 1] each: no way of the decision crosses the uplink; none crosses the wan."""
    (p, q), ends = np.array([decision.cuts for decision in cost_model.decisions]).T, np.array(cost_model.exit_ends)
    end = ends[[decision.exit for decision in cost_model.decisions]]
    return (p >= end)[:, None], (q >= end)[:, None]


def weights_of(objective: Objective) -> FloatArray:
    """The objective's weights of requests as float64 [7], in the order of envs/reward.py's TERMS."""
    return np.array([getattr(objective, field) for field in objective.__struct_fields__[: len(TERMS)]], dtype=np.float64)


def charge_terms(cost_model: CostModel) -> FloatArray:
    """float64 [V, CHARGES, TERMS]: how much of each unweighted cost term a charge brings; times weights it gives the cost."""
    terms = np.zeros((cost_model.num_ways, len(CHARGES), len(TERMS)))
    error, uplink_bytes, device_s = (np.array(getattr(cost_model, name)) for name in ("expected_error", "uplink_bytes", "device_s"))
    compute, radio = cost_model.compute_power, cost_model.radio_power

    def put(charge: str, term: str, values: FloatArray | float) -> None:
        terms[:, CHARGES.index(charge), TERMS.index(term)] = values

    put("charged", "latency", 1.0)
    put("miss", "miss", 1.0)
    put("one", "error", error)
    put("miss", "error", 1.0 - error)
    received_bytes = cost_model.result_bytes * uses_of(cost_model)["uplink"][:, 0]
    put("one", "energy", request_energy_joules(compute, radio, device_s, uplink_bytes, 0.0, received_bytes))  # type: ignore[arg-type]
    put("miss", "energy", -request_energy_joules(compute, radio, 0.0, 0.0, 0.0, received_bytes))  # type: ignore[arg-type]
    put("sending", "energy", request_energy_joules(compute, radio, 0.0, 0.0, 1.0))
    put("one", "uplink", uplink_bytes)
    put("one", "leakage", np.array(cost_model.leakage))
    put("one", "memory", np.array(cost_model.memory_bytes))
    return terms
