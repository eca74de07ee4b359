"""A training job's rounds in the event-driven reference simulator: every local step is an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from envs.training_job import TrainingJob

if TYPE_CHECKING:
    from tests.envs.reference_sim import World


class ReferenceJob:
    """Weights land, steps join the device's queue one by one, the update goes up, weights come down again."""

    def __init__(self, world: World, job: TrainingJob, last_s: float) -> None:
        self._world, self._job, self._last_s = world, job, last_s
        self.waiting_bytes = 0.0
        self.aggregated_at_s: list[float] = []
        world.at(0.0, self._begin)

    def _begin(self) -> None:
        self._left = self._job.tau
        self._join()

    def _join(self) -> None:
        if self._world.now_s <= self._last_s:
            self._world.offer_to_device(self._job.step_s, self._stepped)

    def _stepped(self) -> None:
        self._left -= 1
        if self._left:
            self._join()
        else:
            self._send()

    def _send(self) -> None:
        job, link, line = self._job, self._world.uplink, self._world.uplink._line
        start_s = max(self._world.now_s, line._free_at_s)
        line._free_at_s = sent_s = line._trace.time_of(line._trace.bytes_until(start_s) + job.up_bytes)
        self.waiting_bytes = job.up_bytes
        link.on_the_way.add(-2)
        self._world.at(sent_s + 2 * link.delay_s, lambda: self._acknowledged(job.up_bytes / (sent_s - start_s)))
        self._world.at(sent_s + link.delay_s + job.aggregation_s, self._aggregate)

    def _acknowledged(self, rate_bytes_per_s: float) -> None:
        self.waiting_bytes = 0.0
        self._world.uplink._acknowledged(-2, rate_bytes_per_s)

    def _aggregate(self) -> None:
        if self._world.now_s <= self._last_s:
            self.aggregated_at_s.append(self._world.now_s)
        link, now_s = self._world.uplink, self._world.now_s
        trace = link.down._trace
        self._world.at(trace.time_of(trace.bytes_until(now_s) + self._job.down_bytes) + link.delay_s, self._begin)

    def final_loss(self) -> float:
        """Of the weights after the last round that was aggregated before the last arrival."""
        model, job = self._job.convergence, self._job
        progress = model.start(1)
        for _ in self.aggregated_at_s:
            progress = model.step(progress, job.tau, job.learning_rate, job.num_clients)
        loss: np.ndarray = model.loss(progress)
        return float(loss[0])
