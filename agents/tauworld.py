"""The simulator as a `World` in which only the training job's tau is decided; a policy that is done learning decides the requests.

A tau works seconds later, through rounds, and what requests cost meanwhile depends on arrivals and links more than on any tau.
So environments play in groups: those of one group meet the same episode, and each is paid what it gains above the mean of the
others in the same step.  What the others gain does not depend on what it decides: a baseline that leaves the gradient's
expectation as it is, and takes the episode's luck out of it.  Source: after Kool, van Hoof, Welling, "Buy 4 REINFORCE samples,
get a baseline for free!", 2019 (the leave-one-out baseline); common random numbers: Glasserman, Yao, Management Science 1992.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from agents.heldout import Chooser
from agents.vecenv import FeatureDict
from envs.features import Encoder, Features
from envs.raw_state import RawState
from envs.simulators import BatchSim
from runtime.errors import InvalidConfig

GROUP_SIZE = 8


class TauWorld:
    """N simulated devices whose requests `choose` decides.  An action is a row of the job's taus; it counts where one is due.

    Where none is, the mask leaves one row.  Raises as `check_groups`.
    """

    def __init__(self, sim: BatchSim, choose: Chooser, seed: int, *, reward_scale: float = 1.0) -> None:
        job = sim.cost_model.job
        assert job is not None, "without a job there is no tau to decide"
        check_groups(sim.num_envs)
        self.num_envs = sim.num_envs
        self._sim, self._choose, self._reward_scale = sim, choose, reward_scale
        self._encoder = Encoder(sim.cost_model)
        whole = self._encoder.space
        self.space = spaces.Dict({"state": whole["state"], "candidates": whole["taus"], "mask": whole["tau_mask"]})
        self.action_space: spaces.Space[np.int64] = spaces.Discrete(len(job.taus))
        self._rng = np.random.default_rng([seed & 0xFFFFFFFF, 0x7A5])
        self._potential = np.zeros(self.num_envs)

    def reset(self) -> FeatureDict:
        """New episodes, one for each group."""
        seeds = np.repeat(self._rng.integers(2**32, size=self.num_envs // GROUP_SIZE), GROUP_SIZE)
        self._potential[:] = 0.0
        return self._see(self._sim.reset(seeds))

    def step(self, actions: NDArray[np.int64]) -> tuple[FeatureDict, NDArray[np.float64], NDArray[np.bool_]]:
        """One request of every device, with the taus chosen."""
        decisions = self._choose(self._features)
        step = self._sim.step(decisions if decisions.ndim == 1 else decisions[:, 0], actions)
        potential = -np.where(step.done, 0.0, self._sim.pending_cost)  # as in SimWorld: a request is paid for when it is decided
        reward, self._potential = step.reward + potential - self._potential, potential
        features = self.reset() if step.done.any() else self._see(step.raw)
        return features, above_others(reward) * self._reward_scale, step.done

    def _see(self, raw: RawState) -> FeatureDict:
        self._features: Features = self._encoder.encode(raw)
        taus, mask = self._features.taus, self._features.tau_mask
        assert taus is not None
        assert mask is not None
        return {"state": self._features.state, "candidates": taus, "mask": mask}


def check_groups(num_envs: int) -> None:
    """Raise InvalidConfig for a number of environments that makes no groups."""
    if num_envs % GROUP_SIZE:
        raise InvalidConfig(f"taus are learned in groups of {GROUP_SIZE} environments, got {num_envs}: use a multiple")


def above_others(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N]: each one's reward minus the mean of the others of its group."""
    groups = rewards.reshape(-1, GROUP_SIZE)
    above: NDArray[np.float64] = ((groups - groups.mean(axis=1, keepdims=True)) * GROUP_SIZE / (GROUP_SIZE - 1)).ravel()
    return above
