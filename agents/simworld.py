"""The simulator as a `World` to learn in: features instead of raw states, scaled and optionally shaped rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.vecenv import FeatureDict
from envs.features import Encoder
from envs.raw_state import RawState
from envs.simulators import BatchSim

PARTS = ("state", "candidates", "mask")
"""Of the features, what requests are decided by."""


class SimWorld:
    """N simulated devices.

    A reward is (usual_cost - cost) * reward_scale.  With `usual_cost` near what a request costs on average, returns
    are near 0 from the start, and the value network need not first learn a constant that no decision changes.

    Shaping pays for a decision when it is taken instead of when its request ends: phi(s') - phi(s) is added, with
    phi = -(cost of the unfinished requests as scheduled).  The sum over an episode stays what it is, because phi is 0
    before it and after it.  Ng, Harada and Russell's gamma * phi(s') would keep every *discounted* sum as well; but
    those count a request less the longer it takes, in bursts (many decisions a second) much less.  Without the
    gamma, what is discounted is the cost of later decisions, which is what a discount is for.

    A training job beside the requests keeps the tau that it begins with; who chooses one learns in agents/tauworld.py.  Nor is it
    paid for what the loss falls by: that comes in lumps, each worth many requests, from whose decisions it hardly depends.
    Which network is kept is judged by both (agents/heldout.py).
    Source: after Ng, Harada, Russell, "Policy invariance under reward transformations", ICML 1999.
    """

    def __init__(self, sim: BatchSim, seed: int, *, usual_cost: float = 0.0, reward_scale: float = 1.0, shaping: bool = True) -> None:
        self.num_envs = sim.num_envs
        self._sim = sim
        self.action_space: spaces.Space[Any] = spaces.Discrete(len(sim.decisions))
        self._encoder = Encoder(sim.cost_model)
        self.space = spaces.Dict({name: space for name, space in self._encoder.space.items() if name in PARTS})
        self._rng = np.random.default_rng([seed & 0xFFFFFFFF, 0x5EED])
        job = sim.cost_model.job
        self._tau_rows = np.full(sim.num_envs, job.default_row) if job is not None else None
        self._usual_cost, self._reward_scale, self._shaping = usual_cost, reward_scale, shaping
        self._potential = np.zeros(self.num_envs)

    def reset(self) -> FeatureDict:
        """New episodes, different ones at each call."""
        self._potential = np.zeros(self.num_envs)
        return self._encode(self._sim.reset(self._rng.integers(2**32, size=self.num_envs)))

    def step(self, actions: NDArray[np.int64]) -> tuple[FeatureDict, NDArray[np.float64], NDArray[np.bool_]]:
        """One request of every device."""
        step = self._sim.step(actions, self._tau_rows)
        reward = step.reward - self._sim.cost_model.objective.loss_drop * step.loss_drop
        if self._shaping:
            potential = -np.where(step.done, 0.0, self._sim.pending_cost)
            reward = reward + potential - self._potential
            self._potential = potential
        return self._encode(step.raw), (reward + self._usual_cost) * self._reward_scale, step.done

    def _encode(self, raw: RawState) -> FeatureDict:
        features = self._encoder.encode(raw)
        return {"state": features.state, "candidates": features.candidates, "mask": features.mask}


def split_actions(actions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """(decisions [N], rows of taus [N] or None) of actions [N] or [N, 2]."""
    return (actions, None) if actions.ndim == 1 else (actions[:, 0], actions[:, 1])
