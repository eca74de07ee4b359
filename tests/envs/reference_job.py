"""A training job's rounds in the event-driven reference simulator: every interruption is an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from envs.training_job import TrainingJob

if TYPE_CHECKING:
    from tests.envs.reference_sim import World


class ReferenceJob:
    """Weights land, steps have the device while it is idle, the update goes up, weights come down again."""

    def __init__(self, world: World, job: TrainingJob, last_s: float) -> None:
        self._world, self._job, self._last_s = world, job, last_s
        self._left_s, self._since_s, self._turn = 0.0, np.nan, 0
        self.waiting_bytes, self._num_aggregated = 0.0, 0
        self.aggregated_at_s: list[float] = []
        self.views: list[tuple[int, float, float]] = []
        """At each request's arrival: (rounds whose weights have come, seconds since, local steps done)."""
        self._num_landed, self._landed_at_s = 0, 0.0
        world.at(0.0, self._begin)
        for at_s in world._arrivals.arrival_s.tolist():
            world.at(at_s, self._look)

    def _look(self) -> None:
        now_s = self._world.now_s
        running_s = 0.0 if np.isnan(self._since_s) else now_s - self._since_s
        done = self._job.tau - (self._left_s - running_s) / self._job.step_s
        self.views.append((self._num_landed, now_s - self._landed_at_s, done))

    def _begin(self) -> None:
        self._num_landed, self._landed_at_s = self._num_aggregated, self._world.now_s
        self._left_s = self._job.tau * self._job.step_s
        if self._world.device_is_idle():
            self.resume()

    def resume(self) -> None:
        """The device has nothing else to do."""
        if self._left_s > 0 and np.isnan(self._since_s):
            self._since_s, self._turn = self._world.now_s, self._turn + 1
            self._world.at(self._since_s + self._left_s, lambda turn=self._turn: self._done(turn))

    def pause(self) -> None:
        """The device computes for a request."""
        if not np.isnan(self._since_s):
            self._left_s -= self._world.now_s - self._since_s
            self._since_s = np.nan

    def _done(self, turn: int) -> None:
        if turn == self._turn and not np.isnan(self._since_s) and self._world.now_s <= self._last_s:
            self._left_s, self._since_s = 0.0, np.nan
            self._send()

    def _send(self) -> None:
        job, link, line = self._job, self._world.uplink, self._world.uplink._line
        start_s = max(self._world.now_s, line._free_at_s)
        line._free_at_s = sent_s = line.trace.time_of(line.trace.bytes_until(start_s) + job.up_bytes)
        self.waiting_bytes = job.up_bytes
        link.on_the_way.add(-2)
        self._world.at(sent_s + 2 * link.delay_s, lambda: self._acknowledged(job.up_bytes / (sent_s - start_s)))
        self._world.at(sent_s + link.delay_s + job.aggregation_s, self._aggregate)

    def _acknowledged(self, rate_bytes_per_s: float) -> None:
        self.waiting_bytes = 0.0
        self._world.uplink._acknowledged(-2, rate_bytes_per_s)

    def _aggregate(self) -> None:
        self._num_aggregated += 1
        if self._world.now_s <= self._last_s:
            self.aggregated_at_s.append(self._world.now_s)
        link, now_s = self._world.uplink, self._world.now_s
        trace = link.down.trace
        self._world.at(trace.time_of(trace.bytes_until(now_s) + self._job.down_bytes) + link.delay_s, self._begin)

    def final_loss(self) -> float:
        """Of the weights after the last round that was aggregated before the last arrival."""
        model, job = self._job.convergence, self._job
        progress = model.start(1)
        for _ in self.aggregated_at_s:
            progress = model.step(progress, job.tau, job.learning_rate, job.num_clients)
        loss: np.ndarray = model.loss(progress)
        return float(loss[0])
