"""How fast the simulators are on one core: environment steps per second, alone and with features; the vectorised one first.

    python benchmarks/sim_speed.py [NUM_ENVS] [SCENARIO]

Decisions are greedy's, recorded beforehand, so that queues are as full as they are in training.  Times are processor time
of this process; the best of several episodes is the least disturbed by whatever else the machine does, the median is typical.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from envs.features import MYOPIC_INDEX, Encoder
from envs.make import resolve
from envs.sim import SimStep, VectorSim
from envs.simulation.events.vector import EventSim
from envs.simulators import BatchSim

NUM_EPISODES = 12
NUM_BY_EVENTS = 4
"""Environments of the event-driven simulator, which plays one after another: more take as much longer."""


def main(num_envs: int = 256, scenario_name: str = "congested") -> None:
    """Measure and print."""
    scenario, profile = resolve(scenario_name, None)
    sim = VectorSim(scenario, profile, num_envs)
    encoder, seeds = Encoder(sim.cost_model), range(num_envs)
    started_s = time.process_time()
    raw = sim.reset(seeds)
    print(f"{num_envs} environments, {len(sim.decisions)} candidates, {sim.num_requests} requests per episode")
    print(f"reset with new seeds: {time.process_time() - started_s:.2f} s")
    actions = np.zeros((sim.num_requests, num_envs), dtype=np.int64)
    for row in actions:
        row[:] = encoder.encode(raw).candidates[:, :, MYOPIC_INDEX].argmin(axis=1)
        raw = sim.step(row).raw

    def step_only(step: SimStep) -> None: ...

    measure("simulator", sim, actions, step_only)
    measure("simulator and features", sim, actions, lambda step: encoder.encode(step.raw))
    measure("simulator and pending costs", sim, actions, lambda step: sim.pending_cost)
    few = actions[:, :NUM_BY_EVENTS]
    by_events = EventSim(scenario, profile, few.shape[1], decisions=sim.decisions)
    by_events.reset(range(few.shape[1]))
    measure(f"by events, {few.shape[1]} environments", by_events, few, step_only, num_episodes=3)


def measure(label: str, sim: BatchSim, actions: np.ndarray, then: Callable[[SimStep], object], num_episodes: int = NUM_EPISODES) -> None:
    """Play whole episodes, with `then` after each step."""
    rates = []
    for _ in range(num_episodes):
        started_s = time.process_time()
        for row in actions:
            then(sim.step(row))
        rates.append(actions.size / (time.process_time() - started_s))
    print(f"{label}: best {max(rates):,.0f} env steps/s, median {statistics.median(rates):,.0f}")


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, str), sys.argv[1:], strict=False)))
