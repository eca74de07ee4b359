"""A training job's rounds beside the requests, in N environments: exact, and without stepping through its local steps.

    weights land --> tau local steps on the device --> update on the uplink --> aggregation --> weights on their way down

Local steps give way to requests, as on the nodes (runtime/training/worker.py): they have the device while it computes nothing
else, and are interrupted and resumed.  So they delay no request there, and W seconds of them that begin at r, on a device busy
with requests until f, are done at max(r, f) + W unless another request joins before; then what is left waits for its end.

The update then waits its turn on the uplink like any payload (envs/simulation/network.py).  Weights on their way down are not
delayed by answers nor delay them, and messages of the job have no jitter.  Nothing is trained after the episode's last arrival.
"""

from __future__ import annotations

import numpy as np

from envs.simulation.job_rule import OVER, TauRule
from envs.simulation.job_sight import JobSight
from envs.training_job import TrainingJob
from runtime.messages import TauSpec
from runtime.training.convergence import Progress

NEVER = np.inf


class JobRun:
    """The job of N environments."""

    def __init__(self, job: TrainingJob, num_envs: int) -> None:
        self.job, self._num_envs = job, num_envs
        self._sight = JobSight(num_envs)
        self.start(np.full(num_envs, NEVER), None)

    def start(self, last_s: np.ndarray, tau: TauSpec | None) -> None:
        """Weights are there at time 0; `last_s` [N]: nothing is trained later.  `tau`: who sets it; None: decisions do."""
        self._last_s = last_s
        num = self._num_envs
        self._rule = TauRule(self.job, tau, num)
        self.up_bytes = self._rule.up_bytes
        """An update's."""
        self._tau = np.full(num, self._rule.first_tau)
        self.tau_now = self._tau.copy()
        """Local steps of the present round, [N]."""
        self.num_steps = np.zeros(num, dtype=np.int64)
        """Of each client in the aggregated rounds, [N]."""
        self._left_s = self._work_s(self.tau_now)
        self._ready_s = np.zeros(num)  # until when the device's idle time is used up, or when the weights land
        self.handed_s = np.full(num, NEVER)
        """When the update will be handed to the uplink; NEVER while steps are left or it is on its way."""
        self.num_rounds = np.zeros(num, dtype=np.int64)
        """Aggregated ones."""
        self.began_s = np.zeros(num)
        """When the present round did: weights came, or are about to."""
        self.progress = self.job.convergence.start(num)
        self.loss = self.job.convergence.loss(self.progress)
        """Of the global weights, [N]."""
        self.initial_loss = self.loss.copy()
        self._told_loss = self.loss.copy()
        self._aggregated_s, self._lands_s = np.full(num, NEVER), np.zeros(num)
        self._sight.start(self.tau_now, self.loss)
        self._acknowledged = [(np.full(num, -NEVER), np.ones(num)) for _ in range(2)]

    def decide(self, taus: np.ndarray, which: np.ndarray, now_s: np.ndarray) -> None:
        """Decisions at `now_s` [N] had a tau, `which` bool [N]: `taus` int [N] hold for the rounds that begin from now on.

        Where another rule sets it they are heard, and change nothing.
        """
        if self._rule.may_decide:
            np.copyto(self._tau, taus, where=which)
        self._sight.decided(now_s, which)

    def see(self, now_s: np.ndarray) -> np.ndarray:
        """What the devices know at `now_s` [N], up to which `compute` has gone: rows of envs/job_state.py, [10, N]."""
        return self._sight.see(now_s, self._left_s / self.job.step_s, self.outstanding_bytes(now_s))

    def compute(self, until_s: np.ndarray, busy_s: np.ndarray) -> None:
        """Train until `until_s` [N] on devices that are busy with requests until `busy_s` [N]; no request joins before `until_s`."""
        until_s = np.minimum(until_s, self._last_s)
        self._aggregate((self._aggregated_s <= until_s).nonzero()[0])
        begin_s = np.maximum(busy_s, self._ready_s)
        done_s = begin_s + self._left_s
        trains = (self._left_s > 0) & (begin_s < until_s)
        done = trains & (done_s <= until_s)
        self._left_s = np.where(done, 0.0, self._left_s - (until_s - begin_s) * (trains & ~done))
        np.copyto(self._ready_s, until_s, where=trains & ~done)
        np.copyto(self.handed_s, done_s, where=done)

    def sent(
        self, envs: np.ndarray, sending_s: np.ndarray, acknowledged_s: np.ndarray, aggregated_s: np.ndarray, landed_s: np.ndarray
    ) -> None:
        """Updates of these environments are on their way, [n] each.

        They left the device in `sending_s`, which knows at `acknowledged_s` that they arrived; the round is aggregated at
        `aggregated_s`, and the device has the new weights at `landed_s`.
        """
        self.handed_s[envs] = NEVER
        self._aggregated_s[envs], self._ready_s[envs], self._lands_s[envs] = aggregated_s, landed_s, landed_s
        (last_s, last_rate), (before_s, before_rate) = self._acknowledged
        before_s[envs], before_rate[envs] = last_s[envs], last_rate[envs]
        last_s[envs], last_rate[envs] = acknowledged_s, self.up_bytes / sending_s

    def _aggregate(self, envs: np.ndarray) -> None:
        """Rounds of these environments are over, and their next ones begin."""
        if len(envs) == 0:
            return
        job, model = self.job, self.job.convergence
        before = Progress(self.progress.mean[:, envs], self.progress.variance[:, envs])
        drift = np.clip(np.nan_to_num(model.drift(before, self.tau_now[envs], job.learning_rate)), 0.0, 1.0)
        after = model.step(before, self.tau_now[envs], job.learning_rate, job.num_clients)
        loss = model.loss(after)
        kept = envs[np.isfinite(loss)]  # what diverged is discarded, and the next round begins where this one did
        self.progress.mean[:, kept] = after.mean[:, np.isfinite(loss)]
        self.progress.variance[:, kept] = after.variance[:, np.isfinite(loss)]
        self.loss[kept] = loss[np.isfinite(loss)]
        self.num_rounds[envs] += 1
        self.num_steps[envs] += self.tau_now[envs]
        self._follow_rule(envs, before)
        self.tau_now[envs] = np.maximum(self._tau[envs], 1)
        self._left_s[envs] = np.where(self._tau[envs] == OVER, 0.0, self._work_s(self.tau_now[envs]))
        self.began_s[envs], self._aggregated_s[envs] = self._aggregated_s[envs], NEVER
        self._sight.begin(envs, self._lands_s[envs], self.tau_now[envs], self.loss[envs], drift)

    def _follow_rule(self, envs: np.ndarray, before: Progress) -> None:
        """Tau of the rounds after these, which began at `before`, where it is not left to decisions."""
        for column, env in enumerate(envs.tolist() if self._rule.adapts else ()):
            lasted_s = float(self._aggregated_s[env] - self.began_s[env])
            tau = self._rule.after_round(env, before.column(column), int(self.tau_now[env]), lasted_s)
            if tau is not None:
                self._tau[env] = tau

    def _work_s(self, tau: np.ndarray) -> np.ndarray:
        """What a round of so many local steps takes the device alone."""
        work_s: np.ndarray = (tau + self._rule.more_steps) * self.job.step_s
        return work_s

    def take_loss_drop(self) -> np.ndarray:
        """[N] by how much the loss fell since this was last asked, or since the start; negative where it rose."""
        drop: np.ndarray = self._told_loss - self.loss
        self._told_loss = self.loss.copy()
        return drop

    def outstanding_bytes(self, now_s: np.ndarray) -> np.ndarray:
        """Bytes of the update that is on the uplink or waits for it, and is not known to have arrived, [N]."""
        waits: np.ndarray = self.up_bytes * (self._acknowledged[0][0] > now_s)
        return waits

    def measured(self, now_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(when the uplink's rate was last measured by an update, -inf for never, what it was) as known at `now_s` [N]."""
        (last_s, last_rate), (before_s, before_rate) = self._acknowledged
        known = last_s <= now_s
        return np.where(known, last_s, before_s), np.where(known, last_rate, before_rate)
