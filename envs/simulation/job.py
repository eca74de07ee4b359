"""A training job's rounds beside the requests, in N environments: exact, and without stepping through its local steps.

    weights land --> tau local steps on the device --> update on the uplink --> aggregation --> weights on their way down

A local step is one job of the device's queue, and joins it when the one before has ended, so a request waits for one step
at most that was there before it, and a step for all requests that were there before it.  Let a step join at time e and the
device be busy until f >= e with what joined before: it begins at f, and as long as nobody else joins, so do k - 1 more,
which join at f + s, f + 2 s, ...  All that join by an instant t are therefore

    k = min(steps left, 1 + floor((t - f) / s))   for t >= f, else 1        and busy is f + k s

The update then waits its turn on the uplink like any payload (envs/simulation/network.py).  Weights on their way down are not
delayed by answers nor delay them, and messages of the job have no jitter.  No step joins after the episode's last arrival.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from envs.convergence import Progress
from envs.training_job import TrainingJob
from runtime.errors import InvalidDecision

NEVER = np.inf


class JobRun:
    """The job of N environments."""

    def __init__(self, job: TrainingJob, num_envs: int) -> None:
        self.job, self._num_envs = job, num_envs
        self._tau = np.full(num_envs, job.tau)
        self.start(np.full(num_envs, NEVER))

    def start(self, last_s: np.ndarray) -> None:
        """Weights are there at time 0; `last_s` [N]: no step joins the device's queue later."""
        self._last_s = last_s
        num = self._num_envs
        self._tau[:] = self.job.tau
        self.tau_now = self._tau.copy()
        """Local steps of the present round, [N]."""
        self._left = self.tau_now.copy()
        self._joins_s = np.zeros(num)
        self.handed_s = np.full(num, NEVER)
        """When the update will be handed to the uplink; NEVER while steps are left or it is on its way."""
        self.num_rounds = np.zeros(num, dtype=np.int64)
        """Aggregated ones."""
        self.began_s = np.zeros(num)
        """When the present round did: weights came, or are about to."""
        self.progress = self.job.convergence.start(num)
        self.loss = self.job.convergence.loss(self.progress)
        """Of the global weights, [N]."""
        self._told_loss = self.loss.copy()
        self._aggregated_s = np.full(num, NEVER)
        self._acknowledged = [(np.full(num, -NEVER), np.ones(num)) for _ in range(2)]

    def set_tau(self, tau: npt.ArrayLike) -> None:
        """Local steps, [N] or one for all, of the rounds that begin from now on.  Raises InvalidDecision for less than 1."""
        steps = np.asarray(tau, np.int64)
        if steps.min() < 1:
            raise InvalidDecision(f"tau must be >= 1, got {steps.min()}")
        self._tau[:] = steps

    def compute(self, until_s: np.ndarray, busy_s: np.ndarray) -> None:
        """Local steps that join the device's queue by `until_s` [N]; `busy_s` [N], until when it is busy, is brought up to date."""
        until_s = np.minimum(until_s, self._last_s)
        self._aggregate((self._aggregated_s <= until_s).nonzero()[0])
        joins = (self._joins_s <= until_s) & (self._left > 0)
        if not np.count_nonzero(joins):
            return
        step_s = self.job.step_s
        begin_s = np.maximum(busy_s, self._joins_s)
        more = np.floor(np.maximum(until_s - begin_s, 0.0) / step_s)
        count = np.minimum(self._left, 1 + more * (until_s >= begin_s)) * joins
        end_s = begin_s + count * step_s
        np.copyto(busy_s, end_s, where=joins)
        np.copyto(self._joins_s, end_s, where=joins)
        self._left = self._left - count.astype(np.int64)
        np.copyto(self.handed_s, end_s, where=joins & (self._left == 0))

    def sent(
        self, envs: np.ndarray, sending_s: np.ndarray, acknowledged_s: np.ndarray, aggregated_s: np.ndarray, landed_s: np.ndarray
    ) -> None:
        """Updates of these environments are on their way, [n] each.

        They left the device in `sending_s`, which knows at `acknowledged_s` that they arrived; the round is aggregated at
        `aggregated_s`, and the device has the new weights at `landed_s`.
        """
        self.handed_s[envs] = NEVER
        self._aggregated_s[envs], self._joins_s[envs] = aggregated_s, landed_s
        (last_s, last_rate), (before_s, before_rate) = self._acknowledged
        before_s[envs], before_rate[envs] = last_s[envs], last_rate[envs]
        last_s[envs], last_rate[envs] = acknowledged_s, self.job.up_bytes / sending_s

    def _aggregate(self, envs: np.ndarray) -> None:
        """Rounds of these environments are over, and their next ones begin."""
        if len(envs) == 0:
            return
        job, model = self.job, self.job.convergence
        before = Progress(self.progress.mean[:, envs], self.progress.variance[:, envs])
        after = model.step(before, self.tau_now[envs], job.learning_rate, job.num_clients)
        loss = model.loss(after)
        kept = envs[np.isfinite(loss)]  # what diverged is discarded, and the next round begins where this one did
        self.progress.mean[:, kept] = after.mean[:, np.isfinite(loss)]
        self.progress.variance[:, kept] = after.variance[:, np.isfinite(loss)]
        self.loss[kept] = loss[np.isfinite(loss)]
        self.num_rounds[envs] += 1
        self.tau_now[envs] = self._left[envs] = self._tau[envs]
        self.began_s[envs], self._aggregated_s[envs] = self._aggregated_s[envs], NEVER

    def take_loss_drop(self) -> np.ndarray:
        """[N] by how much the loss fell since this was last asked, or since the start; negative where it rose."""
        drop: np.ndarray = self._told_loss - self.loss
        self._told_loss = self.loss.copy()
        return drop

    def outstanding_bytes(self, now_s: np.ndarray) -> np.ndarray:
        """Bytes of the update that is on the uplink or waits for it, and is not known to have arrived, [N]."""
        waits: np.ndarray = self.job.up_bytes * (self._acknowledged[0][0] > now_s)
        return waits

    def measured(self, now_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(when the uplink's rate was last measured by an update, -inf for never, what it was) as known at `now_s` [N]."""
        (last_s, last_rate), (before_s, before_rate) = self._acknowledged
        known = last_s <= now_s
        return np.where(known, last_s, before_s), np.where(known, last_rate, before_rate)
