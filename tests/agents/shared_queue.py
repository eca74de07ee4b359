"""A small offloading problem with a known optimum, where looking one request ahead is wrong.

Requests come at random gaps of 0.5, 1 or 1.5 time units.  Each is run by the edge with the deep model (1.5 units
of work), by the edge with an early exit (0.5 units, more errors), or on the device (slow, no queue).  At the
edge it waits for the work before it, its backlog w:

    deep  PER_UNIT * (w + 1.5)            early  PER_UNIT * (w + 0.5) + ERROR            device  DEVICE

Deep is cheaper than early for the request itself, whatever w; but its work makes all that follow wait.  Greedy fills
the queue until the device looks no worse.  The optimum, by value iteration over the backlog, keeps it short.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

UNIT = 0.5
"""Backlog is a multiple of it."""
MAX_BACKLOG = 6.0
PER_UNIT, ERROR, DEVICE = 0.2, 0.35, 0.8
WORK = np.array([1.5, 0.5, 0.0])
"""Of deep, early, device."""
GAPS = np.array([0.5, 1.0, 1.5])
STEPS, GAMMA = 100, 0.95
MYOPIC_INDEX = 0
BACKLOGS = np.arange(0, MAX_BACKLOG + UNIT, UNIT)

FeatureDict = dict[str, NDArray[Any]]


def costs(backlog: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, 3]: what a request costs by candidate; an edge that is full makes it as bad as it gets."""
    base = PER_UNIT * WORK + np.array([0.0, ERROR, DEVICE])
    full = (backlog[:, None] + WORK > MAX_BACKLOG) & (WORK > 0)
    return base + PER_UNIT * backlog[:, None] * (WORK > 0) + 2.0 * full


class SharedQueue:
    """N of these edges as a `World`."""

    def __init__(self, num_envs: int, seed: int) -> None:
        self.num_envs = num_envs
        self.action_space: spaces.Space[Any] = spaces.Discrete(len(WORK))
        self.space = spaces.Dict(
            {
                "state": spaces.Box(-10, 10, (2,), np.float32),
                "candidates": spaces.Box(-10, 10, (3, 3), np.float32),
                "mask": spaces.Box(0, 1, (3,), np.int8),
            }
        )
        self._rng = np.random.default_rng(seed)
        self._backlog = np.zeros(num_envs)
        self._step = np.zeros(num_envs, dtype=np.int64)

    def reset(self) -> FeatureDict:
        """Empty queues, episodes out of step with each other."""
        self._backlog[:] = 0
        self._step[:] = self._rng.integers(STEPS, size=self.num_envs)
        return features(self._backlog)

    def step(self, actions: NDArray[np.int64]) -> tuple[FeatureDict, NDArray[np.float64], NDArray[np.bool_]]:
        """Pay, queue the work, and let a gap pass."""
        reward = -costs(self._backlog)[np.arange(self.num_envs), actions]
        gap = self._rng.choice(GAPS, self.num_envs)
        self._backlog = np.maximum(np.minimum(self._backlog + WORK[actions], MAX_BACKLOG) - gap, 0)
        self._step += 1
        done = self._step >= STEPS
        self._backlog[done] = 0
        self._step[done] = 0
        return features(self._backlog), reward, done


def features(backlog: NDArray[np.float64]) -> FeatureDict:
    """What a policy sees of backlogs [N]."""
    cost = costs(backlog)
    regret = cost - cost.min(axis=1, keepdims=True)
    work = np.broadcast_to(WORK, regret.shape)
    at_edge = np.broadcast_to(WORK > 0, regret.shape)
    return {
        "state": np.stack([backlog / MAX_BACKLOG, np.ones(len(backlog))], axis=1).astype(np.float32),
        "candidates": np.stack([regret, work, at_edge], axis=2).astype(np.float32),
        "mask": np.ones(regret.shape, dtype=np.int8),
    }


def transitions() -> NDArray[np.float64]:
    """[B, A, B]: probability of the next backlog."""
    result = np.zeros((len(BACKLOGS), len(WORK), len(BACKLOGS)))
    for index, backlog in enumerate(BACKLOGS):
        for action, work in enumerate(WORK):
            for gap in GAPS:
                after = max(min(backlog + work, MAX_BACKLOG) - gap, 0.0)
                result[index, action, round(after / UNIT)] += 1 / len(GAPS)
    return result


def best_policy() -> NDArray[np.int64]:
    """[B]: the optimum's action by backlog, value iteration to convergence."""
    value = np.zeros(len(BACKLOGS))
    chain = transitions()
    for _ in range(1000):
        value = (costs(BACKLOGS) + GAMMA * chain @ value).min(axis=1)
    return np.asarray((costs(BACKLOGS) + GAMMA * chain @ value).argmin(axis=1))


def mean_cost(policy: NDArray[np.int64]) -> float:
    """Long-run cost per request of a policy [B], from the stationary distribution of its chain: exact."""
    rows = np.arange(len(BACKLOGS))
    chain = transitions()[rows, policy]
    share = np.full(len(BACKLOGS), 1 / len(BACKLOGS))
    for _ in range(5000):
        share = share @ chain
    return float(share @ costs(BACKLOGS)[rows, policy])
