"""The linear pieces of a request's time: (what the decision needs) x (what the state offers).

`Inputs` turns N raw states into rows; `linear_terms` turns V ways of decisions (envs/ways.py) into coefficients of its COLUMNS.  Their
product gives every piece for every way in every state at once; envs/predictor.py puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from envs.costs import CostModel
from envs.raw_state import RAW_FIELDS, ROW, FloatArray

INPUTS = {
    "one": "1",
    "arrivals_edge": "arrival_rate_per_s * edge_left",
    "arrivals_device": "arrival_rate_per_s * device_backlog_s",
    "arrivals_uplink": "arrival_rate_per_s * uplink_pace * uplink_queue",
    "arrivals_pace": "arrival_rate_per_s * uplink_pace^2",
    "wan_queue": "seconds until what is outstanding has crossed the wan",
    "uplink_queue": "the same for the uplink",
    "uplink_pace": "seconds per byte",
    "wan_pace": "seconds per byte",
    "cloud_left": "the cloud's reported backlog, as if it had just been reported",
    "edge_left": "the same for the edge",
    **dict.fromkeys(RAW_FIELDS, "the raw field, clipped"),
    "uplink_log_rate": "ln(bytes per second)",
    "wan_log_rate": "ln(bytes per second)",
}
"""Rows of `Inputs` and what they hold."""
INPUT = {name: index for index, name in enumerate(INPUTS)}

COLUMNS = tuple(INPUTS)[: INPUT["wan_delay_s"] + 1]
"""The first rows, those that linear terms are made of."""

LINEAR = (
    "device_late", "uplink_late", "edge_late", "wan_late", "cloud_late", "latency_s",
    "uplink_s", "wan_s", "device_imposed", "uplink_imposed", "edge_imposed",
)  # fmt: skip
"""Terms of the product; see `linear_terms`."""

MIN_RATE_BYTES_PER_S = 1.0
"""A link estimated slower than this counts as this fast: the floor of runtime/rates.py."""
MAX_SECONDS, MAX_BYTES, MAX_RATE, MAX_COUNT = 1e4, 1e12, 1e12, 1e4
"""Raw fields are clipped to these (arrivals per second as a count), so that products stay finite, in float32 too."""

_Columns = Mapping[str, FloatArray]


def _limits() -> tuple[FloatArray, FloatArray]:
    low, high = np.zeros((len(RAW_FIELDS), 1)), np.full((len(RAW_FIELDS), 1), MAX_COUNT)
    for name, row in ROW.items():
        if name.endswith("_rate_bytes_per_s"):
            low[row], high[row] = MIN_RATE_BYTES_PER_S, MAX_RATE
        elif name.endswith("_bytes"):
            high[row] = MAX_BYTES
        elif name.endswith("_s") and not name.endswith("_per_s"):
            high[row] = MAX_SECONDS
        elif name.endswith("_reachable"):
            high[row] = 1.0
    return low, high


class Inputs:
    """The rows INPUTS for N states, in buffers that `fill` overwrites."""

    def __init__(self, num: int, dtype: npt.DTypeLike) -> None:
        self.rows: FloatArray = np.ones((len(INPUTS), num), dtype)
        """[INPUTS, N]"""
        self.columns = self.rows[: len(COLUMNS)]
        low, high = _limits()
        self._low, self._high = np.repeat(low, num, axis=1).astype(dtype), np.repeat(high, num, axis=1)
        self._scratch = np.empty(num, dtype)
        self._raw = self._span(RAW_FIELDS[0], RAW_FIELDS[-1])
        self._backlogs = self._span("cloud_backlog_s", "edge_backlog_s")
        self._left = self._span("cloud_left", "edge_left")
        self._rates, self._paces = self._span("uplink_rate_bytes_per_s", "wan_rate_bytes_per_s"), self._span("uplink_pace", "wan_pace")
        self._wan_then_uplink_pace, self._uplink_pace = self._paces[::-1], self._paces[0]
        self._outstanding = self._span("wan_outstanding_bytes", "uplink_outstanding_bytes")
        self._queues = self._span("wan_queue", "uplink_queue")
        self._arrivals, self._log_rates = self.rows[INPUT["arrival_rate_per_s"]], self._span("uplink_log_rate", "wan_log_rate")
        self._edge_then_device = self._span("edge_left", "device_backlog_s")
        self._arrivals_edge_then_device = self._span("arrivals_edge", "arrivals_device")
        self._queue_then_pace = self._span("uplink_queue", "uplink_pace")
        self._arrivals_queue_then_pace = self._span("arrivals_uplink", "arrivals_pace")

    def fill(self, matrix: FloatArray) -> None:
        """Make the rows of N raw states, `RawState.matrix` [23, N]."""
        np.minimum(matrix, self._high, out=self._raw)
        np.maximum(self._raw, self._low, out=self._raw)
        np.copyto(self._left, self._backlogs)
        np.reciprocal(self._rates, out=self._paces)
        np.multiply(self._outstanding, self._wan_then_uplink_pace, out=self._queues)
        np.multiply(self._edge_then_device, self._arrivals, out=self._arrivals_edge_then_device)
        np.multiply(self._arrivals, self._uplink_pace, out=self._scratch)
        np.multiply(self._queue_then_pace, self._scratch, out=self._arrivals_queue_then_pace)
        np.log(self._rates, out=self._log_rates)

    def __getitem__(self, name: str) -> FloatArray:
        """The row of that name, [N]."""
        row: FloatArray = self.rows[INPUT[name]]
        return row

    def _span(self, first: str, last: str) -> FloatArray:
        return self.rows[INPUT[first] : INPUT[last] + 1]


def linear_terms(cost_model: CostModel) -> FloatArray:
    """Coefficients of COLUMNS, float64 [LINEAR, V, COLUMNS].

    x_late        how long after an undelayed request's arrival at x (device, uplink, edge, wan, cloud) its queue will
                  still be busy: its backlog less that arrival; 0 where it is not joined
    latency_s     the latency if nothing waited
    uplink_s      sending on the uplink; wan_s alike
    x_imposed     arrivals * s * (queue + s), s being the seconds that the decision takes of x: requests that come
                  while the queue it joins is busy, for queue + s seconds, wait s longer, if they use x too
    """
    uses = uses_of(cost_model)
    column = {name: np.array(getattr(cost_model, name))[:, None] for name in ("device_s", "edge_s", "cloud_s", "uplink_bytes", "wan_bytes")}
    row = dict(zip(COLUMNS, np.eye(len(COLUMNS)), strict=True))
    terms = {
        **_times(cost_model, uses, column, row),
        "uplink_s": column["uplink_bytes"] * row["uplink_pace"],
        "wan_s": column["wan_bytes"] * row["wan_pace"],
        "device_imposed": column["device_s"] * row["arrivals_device"] + column["device_s"] ** 2 * row["arrival_rate_per_s"],
        "uplink_imposed": column["uplink_bytes"] * row["arrivals_uplink"] + column["uplink_bytes"] ** 2 * row["arrivals_pace"],
        "edge_imposed": column["edge_s"] * row["arrivals_edge"] + column["edge_s"] ** 2 * row["arrival_rate_per_s"],
    }
    return np.stack([terms[name] for name in LINEAR])


def _times(model: CostModel, uses: _Columns, column: _Columns, row: _Columns) -> dict[str, FloatArray]:
    """The late terms and the latency, each [V, COLUMNS]: stations in the order in which a request passes them."""
    one, overheads = row["one"], model.overheads
    at_uplink = column["device_s"] * one
    at_edge = at_uplink + column["uplink_bytes"] * row["uplink_pace"] + uses["uplink"] * (row["uplink_delay_s"] + overheads.uplink_s * one)
    at_wan = at_edge + column["edge_s"] * one
    at_cloud = at_wan + column["wan_bytes"] * row["wan_pace"] + uses["wan"] * (row["wan_delay_s"] + overheads.wan_s * one)
    back = uses["uplink"] * (row["uplink_delay_s"] + model.result_bytes / model.uplink_down_bytes_per_s * one)
    back = back + uses["wan"] * (row["wan_delay_s"] + model.result_bytes / model.wan_down_bytes_per_s * one)

    return {
        "device_late": uses["device"] * row["device_backlog_s"],
        "uplink_late": uses["uplink"] * (row["uplink_queue"] - at_uplink),
        "edge_late": uses["edge"] * (row["edge_left"] - at_edge),
        "wan_late": uses["wan"] * (row["wan_queue"] - at_wan),
        "cloud_late": uses["wan"] * (row["cloud_left"] - at_cloud),
        "latency_s": overheads.base_s * one + at_cloud + column["cloud_s"] * one + back,
    }


def uses_of(cost_model: CostModel) -> dict[str, FloatArray]:
    """Resource -> float64 [V, 1]: 1 where the way uses it.  Whoever uses the wan uses the cloud's processor."""
    (p, q), end = cost_model.way_cuts, cost_model.way_ends
    used = {
        "device": (p > 0) | (np.array(cost_model.device_s) > 0),  # a codec takes it even where no stage does
        "uplink": p < end,
        "edge": p < np.minimum(q, end),
        "wan": q < end,
    }
    return {name: flags.astype(np.float64)[:, None] for name, flags in used.items()}
