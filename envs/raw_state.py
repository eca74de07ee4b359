"""What N devices observe at N decisions, as arrays: `Observation`'s numbers, one row per field, one column per decision.

The vectorised simulator writes these rows; `from_observation` makes them of the typed struct.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.job_state import job_column, job_view
from envs.loading_features import Loaded
from runtime.errors import InvalidInput
from runtime.messages import LinkView, NodeView, Observation

FloatArray = npt.NDArray[np.floating[Any]]

RAW_FIELDS = (
    "device_backlog_s",
    "arrival_rate_per_s",
    "uplink_delay_s",
    "wan_delay_s",
    "cloud_backlog_s",
    "edge_backlog_s",
    "cloud_age_s",
    "edge_age_s",
    "wan_outstanding_bytes",
    "uplink_outstanding_bytes",
    "uplink_rate_bytes_per_s",
    "wan_rate_bytes_per_s",
    "edge_reachable",
    "cloud_reachable",
    "deadline_s",
    "uplink_age_s",
    "wan_age_s",
    "num_in_flight",
    "device_num_own",
    "edge_num_own",
    "cloud_num_own",
    "edge_num_waiting",
    "cloud_num_waiting",
)
"""Row order of `RawState.matrix`.  Rows that are used together lie together (envs/timeline.py)."""

ROW = {name: index for index, name in enumerate(RAW_FIELDS)}
"""Field name -> row."""


class _Row:
    """A named row of the matrix: reading gives a view [N], assigning writes into it."""

    def __set_name__(self, owner: type[RawState], name: str) -> None:
        self._index = ROW[name]

    def __get__(self, raw: RawState, owner: type[RawState]) -> FloatArray:
        row: FloatArray = raw.matrix[self._index]
        return row

    def __set__(self, raw: RawState, values: npt.ArrayLike) -> None:
        raw.matrix[self._index] = values


class RawState:
    """N observations as a float64 matrix [23, N]; each field of RAW_FIELDS is a view of its row, and may be assigned.

    `*_reachable` are 1.0 or 0.0.  Counts, seconds and bytes as in `Observation`; nothing is clipped here.
    `difficulty` is float64 [predicted exits, N], or None where inputs are not looked at.
    `job` is float64 [9, N] in the order of envs/job_state.py's JOB_ROWS, or None where nothing trains beside.
    `loaded` is what is in memory, N times of device, edge and cloud, or None where all is for good.
    """

    __slots__ = ("difficulty", "job", "loaded", "matrix")

    difficulty: FloatArray | None
    job: FloatArray | None
    loaded: Sequence[Loaded] | None

    device_backlog_s = _Row()
    arrival_rate_per_s = _Row()
    uplink_delay_s = _Row()
    wan_delay_s = _Row()
    cloud_backlog_s = _Row()
    edge_backlog_s = _Row()
    cloud_age_s = _Row()
    edge_age_s = _Row()
    wan_outstanding_bytes = _Row()
    uplink_outstanding_bytes = _Row()
    uplink_rate_bytes_per_s = _Row()
    wan_rate_bytes_per_s = _Row()
    edge_reachable = _Row()
    cloud_reachable = _Row()
    deadline_s = _Row()
    uplink_age_s = _Row()
    wan_age_s = _Row()
    num_in_flight = _Row()
    device_num_own = _Row()
    edge_num_own = _Row()
    cloud_num_own = _Row()
    edge_num_waiting = _Row()
    cloud_num_waiting = _Row()

    def __init__(self, **fields: npt.ArrayLike) -> None:
        """All fields by name, arrays [N] (scalars are repeated).  Raises TypeError for a missing or unknown one."""
        if fields.keys() != ROW.keys():
            raise TypeError(f"RawState fields: missing {sorted(ROW.keys() - fields.keys())}, unknown {sorted(fields.keys() - ROW.keys())}")
        columns = [np.atleast_1d(np.asarray(fields[name], dtype=np.float64)) for name in RAW_FIELDS]
        self.matrix: FloatArray = np.array(np.broadcast_arrays(*columns))
        self.difficulty = self.job = self.loaded = None

    @classmethod
    def of_matrix(
        cls,
        matrix: FloatArray,
        difficulty: FloatArray | None = None,
        job: FloatArray | None = None,
        loaded: Sequence[Loaded] | None = None,
    ) -> RawState:
        """Wrap a matrix [23, N] in RAW_FIELDS order, without a copy."""
        raw = cls.__new__(cls)
        raw.matrix, raw.difficulty, raw.job, raw.loaded = matrix, difficulty, job, loaded
        return raw

    @classmethod
    def empty(cls, num: int) -> RawState:
        """N idle systems: all zero, everything reachable.  Fill the rows in place."""
        raw = cls.of_matrix(np.zeros((len(RAW_FIELDS), num)))
        raw.edge_reachable = raw.cloud_reachable = 1.0
        return raw

    @classmethod
    def from_observation(cls, observation: Observation) -> RawState:
        """One observation, N = 1."""
        difficulty = np.array(observation.difficulty).reshape(-1, 1) if observation.difficulty else None
        job = job_column(observation.job) if observation.job is not None else None
        matrix = np.array(_values(observation), dtype=np.float64).reshape(-1, 1)
        return cls.of_matrix(matrix, difficulty, job, (_loaded(observation),))

    @classmethod
    def from_observations(cls, observations: list[Observation]) -> RawState:
        """Several observations, in order.

        Raises InvalidInput unless all tell the same number of exits' difficulty, and all or none of a training job.
        """
        numbers = {len(observation.difficulty) for observation in observations}
        if len(numbers) > 1:
            raise InvalidInput(f"observations of one model tell the difficulty of as many exits, or of none; got {sorted(numbers)}")
        told = np.array([observation.difficulty for observation in observations], dtype=np.float64).T.copy() if numbers - {0} else None
        jobs = [job_column(observation.job) for observation in observations if observation.job is not None]
        if len(jobs) not in (0, len(observations)):
            raise InvalidInput(f"observations tell of a training job or do not; got {len(jobs)} of {len(observations)} that do")
        matrix = np.array([_values(observation) for observation in observations], dtype=np.float64).T.copy()
        return cls.of_matrix(matrix, told, np.concatenate(jobs, axis=1) if jobs else None, list(map(_loaded, observations)))

    def part(self, columns: slice) -> RawState:
        """Some of the states, without a copy."""
        told, job = self.difficulty, self.job
        return RawState.of_matrix(
            self.matrix[:, columns],
            told[:, columns] if told is not None else None,
            job[:, columns] if job is not None else None,
            self.loaded[columns] if self.loaded is not None else None,
        )

    def __len__(self) -> int:
        return int(self.matrix.shape[1])

    def to_observation(self, index: int, *, request_id: int, model: str, at_s: float, device_num_waiting: int = 0) -> Observation:
        """Column `index` as the typed struct; the inverse of `from_observation`, given what the rows do not hold."""
        value = dict(zip(RAW_FIELDS, self.matrix[:, index].tolist(), strict=True))
        device_loaded, edge_loaded, cloud_loaded = self.loaded[index] if self.loaded is not None else ((), (), ())
        return Observation(
            request_id=request_id,
            model=model,
            at_s=at_s,
            deadline_s=value["deadline_s"],
            num_in_flight=int(value["num_in_flight"]),
            arrival_rate_per_s=value["arrival_rate_per_s"],
            nodes=(
                NodeView(
                    backlog_s=value["device_backlog_s"],
                    num_waiting=device_num_waiting,
                    num_own=int(value["device_num_own"]),
                    age_s=0.0,
                    loaded=device_loaded,
                ),
                _node(value, "edge", edge_loaded),
                _node(value, "cloud", cloud_loaded),
            ),
            links=(_link(value, "uplink"), _link(value, "wan")),
            difficulty=tuple(self.difficulty[:, index].tolist()) if self.difficulty is not None else (),
            job=job_view(self.job, index) if self.job is not None else None,
        )


def _values(observation: Observation) -> tuple[float, ...]:
    """The observation's numbers in RAW_FIELDS order."""
    device, edge, cloud = observation.nodes
    uplink, wan = observation.links
    return (
        device.backlog_s,
        observation.arrival_rate_per_s,
        uplink.delay_s,
        wan.delay_s,
        cloud.backlog_s,
        edge.backlog_s,
        cloud.age_s,
        edge.age_s,
        wan.outstanding_bytes,
        uplink.outstanding_bytes,
        uplink.rate_bytes_per_s,
        wan.rate_bytes_per_s,
        edge.reachable,
        cloud.reachable,
        observation.deadline_s,
        uplink.age_s,
        wan.age_s,
        observation.num_in_flight,
        device.num_own,
        edge.num_own,
        cloud.num_own,
        edge.num_waiting,
        cloud.num_waiting,
    )


def _loaded(observation: Observation) -> Loaded:
    return tuple([node.loaded for node in observation.nodes])


def _node(value: dict[str, float], tier: str, loaded: tuple[str, ...]) -> NodeView:
    return NodeView(
        backlog_s=value[f"{tier}_backlog_s"],
        num_waiting=int(value[f"{tier}_num_waiting"]),
        num_own=int(value[f"{tier}_num_own"]),
        age_s=value[f"{tier}_age_s"],
        reachable=value[f"{tier}_reachable"] > 0,
        loaded=loaded,
    )


def _link(value: dict[str, float], link: str) -> LinkView:
    return LinkView(
        rate_bytes_per_s=value[f"{link}_rate_bytes_per_s"],
        delay_s=value[f"{link}_delay_s"],
        outstanding_bytes=value[f"{link}_outstanding_bytes"],
        age_s=value[f"{link}_age_s"],
    )
