"""Features of the training job beside the requests: more of the state, and a candidate for every tau.

Only where there is a job: `JobEncoder.extend` appends JOB_FIELDS to the state and adds `taus` float32 [N, T, G] (TAU_FIELDS)
and `tau_mask` bool [N, T].  Where no tau is due, because no round began since one was decided, the mask leaves the one row that
the job begins with: its probability is 1, so that nothing is learned from a choice that is none.

`prior_cost` stands where a decision's myopic cost does, so that the same network scores both, and an untrained policy keeps to
the job's own tau.  Seconds are in T, the workload's deadline; logarithms because taus and times differ by powers of ten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from envs.feature_field import BOUND, Field
from envs.job_state import JOB_ROW
from envs.job_traits import JobTraits
from envs.raw_state import RawState

if TYPE_CHECKING:
    from gymnasium import spaces

Array = npt.NDArray[np.floating[Any]]

JOB_FIELDS = (
    Field("job_rounds", "ln(1 + rounds so far)", "2", 0, BOUND),
    Field("job_log_tau", "ln(tau of the present round)", "2", 0, BOUND),
    Field("job_steps", "share of its steps that is done", "1", 0, 1),
    Field("job_since", "ln(1 + time since its weights came / T)", "2", 0, BOUND),
    Field("job_round", "ln(1 + time that the round before took / T)", "2", 0, BOUND),
    Field("job_log_loss", "ln(loss / initial loss)", "2", -BOUND, BOUND),
    Field("job_drop", "what the last round brought / loss before it", "1/4", -BOUND, BOUND),
    Field("job_drift", "how far clients came apart in the last round", "1", 0, 1),
    Field("job_outstanding", "share of the update that is on its way", "1", 0, 1),
    Field("job_due", "1 if a tau is to be decided", "1", 0, 1),
)
TAU_FIELDS = (
    Field("prior_cost", "what it takes to leave the tau that the job begins with", "cost", 0, BOUND),
    Field("log_tau", "ln(tau)", "2", 0, BOUND),
    Field("log_change", "ln(tau / tau of the present round)", "2", -BOUND, BOUND),
    Field("compute", "ln(1 + time of so many steps / T)", "2", 0, BOUND),
    Field("send", "ln(1 + time of the update on the uplink at its estimated rate / T)", "2", 0, BOUND),
    Field("uplink_share", "of a round's time in which the update is on the uplink", "1", 0, 1),
    Field("bias", "always 1: tells taus from decisions", "1", 0, 1),
)
PRIOR_INDEX = [field.name for field in TAU_FIELDS].index("prior_cost")
PRIOR_COST = 0.05
"""Per factor e between a tau and the one that the job begins with: little enough to try others."""
MIN_LOSS = 1e-6


class JobEncoder:
    """Features of one job."""

    def __init__(self, traits: JobTraits, deadline_s: float) -> None:
        self._traits, self._deadline_s = traits, deadline_s
        taus = np.array(traits.taus, np.float64)
        self._log_taus, self._compute_s = np.log(taus), taus * traits.step_s
        self._prior_cost = PRIOR_COST * np.abs(np.log(taus / traits.tau))

    @property
    def spaces(self) -> dict[str, spaces.Space[Any]]:
        """Of `taus` and `tau_mask` of one decision."""
        from gymnasium import spaces  # as envs/features.py

        low, high = (np.array([getattr(field, side) for field in TAU_FIELDS], np.float32) for side in ("low", "high"))
        num = len(self._traits.taus)
        return {
            "taus": spaces.Box(np.tile(low, (num, 1)), np.tile(high, (num, 1)), dtype=np.float32),
            "tau_mask": spaces.MultiBinary(num),
        }

    def encode(self, raw: RawState) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """(more of the state [N, J], taus [N, T, G], their mask [N, T]); zeros, and nothing to decide, where no job is seen."""
        num = raw.matrix.shape[1]
        job = raw.job if raw.job is not None else self._unseen(num)
        mask = np.repeat(job[JOB_ROW["tau_due"]][:, None] > 0, len(self._traits.taus), axis=1)
        mask[:, self._traits.default_row] |= ~mask.any(axis=1)
        return self._state(job), self._taus(job, raw), mask

    def _unseen(self, num: int) -> Array:
        job = np.zeros((len(JOB_ROW), num))
        job[JOB_ROW["tau"]], job[JOB_ROW["loss"]] = self._traits.tau, self._traits.initial_loss
        return job

    def _state(self, job: Array) -> npt.NDArray[np.float32]:
        row = {name: job[index] for name, index in JOB_ROW.items()}
        loss = np.maximum(row["loss"], MIN_LOSS)
        fields = [
            np.log1p(row["num_rounds"]) / 2,
            np.log(row["tau"]) / 2,
            row["num_steps"] / row["tau"],
            np.log1p(row["since_s"] / self._deadline_s) / 2,
            np.log1p(row["last_round_s"] / self._deadline_s) / 2,
            np.log(loss / self._traits.initial_loss) / 2,
            4 * row["loss_drop"] / np.maximum(row["loss"] + row["loss_drop"], MIN_LOSS),
            row["drift"],
            np.minimum(row["outstanding_bytes"] / self._traits.up_bytes, 1.0),
            row["tau_due"],
        ]
        state: npt.NDArray[np.float32] = np.clip(np.stack(fields, axis=1), -BOUND, BOUND).astype(np.float32)
        return state

    def _taus(self, job: Array, raw: RawState) -> npt.NDArray[np.float32]:
        num, num_taus = raw.matrix.shape[1], len(self._traits.taus)
        send_s = self._traits.up_bytes / np.maximum(raw.uplink_rate_bytes_per_s, 1.0)
        taus = np.empty((num, num_taus, len(TAU_FIELDS)))
        taus[:, :, 0], taus[:, :, 1], taus[:, :, 6] = self._prior_cost, self._log_taus / 2, 1.0
        taus[:, :, 2] = (self._log_taus - np.log(job[JOB_ROW["tau"]])[:, None]) / 2
        taus[:, :, 3] = np.log1p(self._compute_s / self._deadline_s) / 2
        taus[:, :, 4] = np.log1p(send_s / self._deadline_s)[:, None] / 2
        taus[:, :, 5] = send_s[:, None] / (send_s[:, None] + self._compute_s)
        clipped: npt.NDArray[np.float32] = np.clip(taus, -BOUND, BOUND).astype(np.float32)
        return clipped
