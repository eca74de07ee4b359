"""The bridge to stable-baselines3: any vectorised world of candidate features as a `VecEnv`.

Worlds reset themselves in the same step in which an episode ends (stable-baselines3's convention).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

FeatureDict = dict[str, NDArray[Any]]
"""{"state" [N, S], "candidates" [N, K, F], "mask" [N, K]}"""


class World(Protocol):
    """N environments that step together."""

    num_envs: int
    space: spaces.Dict
    """Of one environment's features."""
    action_space: spaces.Space[Any]
    """Of one environment: Discrete(K)."""

    def reset(self) -> FeatureDict:
        """Start N episodes."""

    def step(self, actions: NDArray[np.int64]) -> tuple[FeatureDict, NDArray[np.float64], NDArray[np.bool_]]:
        """Features, rewards [N], dones [N]; where done, the features are already the next episode's."""


class WorldVecEnv(VecEnv):
    """A World for stable-baselines3.

    Episodes end by themselves, never by a time limit: the value of what follows is 0, so infos carry no
    `terminal_observation` but the episode's return and length under "episode", as Monitor does.
    """

    def __init__(self, world: World) -> None:
        self.world = world  # first: the base class asks for attributes
        super().__init__(world.num_envs, world.space, world.action_space)
        self._actions: NDArray[np.int64] = np.zeros(world.num_envs, dtype=np.int64)
        self._returns = np.zeros(world.num_envs)
        self._lengths = np.zeros(world.num_envs, dtype=np.int64)

    def reset(self) -> FeatureDict:
        """Start all episodes anew."""
        self._returns[:] = 0
        self._lengths[:] = 0
        return self.world.reset()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Remember the actions; `step_wait` performs them."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Features, rewards [N], dones [N], infos."""
        features, rewards, dones = self.world.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(dones):
            infos[index]["episode"] = {"r": float(self._returns[index]), "l": int(self._lengths[index]), "t": 0.0}
            self._returns[index] = 0
            self._lengths[index] = 0
        return features, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Nothing to release: a world is memory only."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The world's attribute, once per environment asked for."""
        return [getattr(self.world, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the world's attribute; environments share it."""
        setattr(self.world, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any) -> list[Any]:
        """Call the world's method, once per environment asked for."""
        return [getattr(self.world, method_name)(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None) -> list[bool]:
        """Never."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """There is nothing to look at."""
        return [None] * self.num_envs
