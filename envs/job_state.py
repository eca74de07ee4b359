"""What N devices see of the training job beside their requests, as rows of an array: `JobView`'s numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.messages import JobView

JOB_ROWS = ("num_rounds", "tau", "num_steps", "since_s", "last_round_s", "loss", "loss_drop", "drift", "outstanding_bytes", "tau_due")
"""Row order of `RawState.job`, float64 [10, N]: the fields of JobView."""

JOB_ROW = {name: index for index, name in enumerate(JOB_ROWS)}
"""Field name -> row."""

_COUNTS = ("num_rounds", "tau", "num_steps")


def job_column(view: JobView) -> npt.NDArray[np.floating[Any]]:
    """One view, [9, 1]."""
    return np.array([[float(getattr(view, name))] for name in JOB_ROWS])


def job_view(job: npt.NDArray[np.floating[Any]], index: int) -> JobView:
    """Column `index` as the typed struct; the inverse of `job_column`."""
    values: dict[str, Any] = dict(zip(JOB_ROWS, job[:, index].tolist(), strict=True))
    counts = {name: int(values[name]) for name in _COUNTS}
    return JobView(**{**values, **counts, "tau_due": values["tau_due"] > 0})
