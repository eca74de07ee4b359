"""The simulated environment, N at a time, as Gymnasium's vector environments are: one call steps all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.features import Encoder
from envs.offload import FeatureDict, action_space
from envs.raw_state import RawState
from envs.scenario import Scenario
from envs.sim import POOL_SIZE
from envs.simulators import batch_sim
from runtime.messages import Decision
from runtime.profile import Profile


class OffloadVectorEnv(VectorEnv[FeatureDict, npt.NDArray[np.int64], npt.NDArray[Any]]):
    """`OffloadEnv` over the simulator, for N devices in one process; spaces and rewards are the same.

    An ended episode is reset in the same step (AutoresetMode.SAME_STEP): the observation is the next episode's first,
    and the last one of the old episode is under `final_obs`.  All N end together, after `num_requests` steps.
    Unlike in OffloadEnv a request that will be refused, because too many are in flight, or that the filter will answer, is
    observed like others; what is decided for it does not matter.

    infos, arrays [N]: `num_ended`, `num_answered`, the requests that ended in the step and those of them answered in time.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        scenario: Scenario,
        profile: Profile,
        num_envs: int = 64,
        *,
        split: str = "validation",
        decisions: Sequence[Decision] | None = None,
        expected_error: bool = False,
        pool_size: int = POOL_SIZE,
    ) -> None:
        """Arguments as of batch_sim."""
        self.sim = batch_sim(
            scenario, profile, num_envs, split=split, decisions=decisions, expected_error=expected_error, pool_size=pool_size
        )
        self.num_envs, self.cost_model = num_envs, self.sim.cost_model
        self._encoder = Encoder(self.cost_model)
        self.single_observation_space = self._encoder.space
        self.single_action_space = action_space(self.cost_model)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._observation: FeatureDict = {}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FeatureDict, dict[str, Any]]:
        """Start N episodes: of seed, seed + 1, ...; or of the seeds given; or of drawn ones where there is none."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        given = [seed + index for index in range(self.num_envs)] if isinstance(seed, int) else list(seed or [None] * self.num_envs)
        seeds = [int(self.np_random.integers(2**31)) if one is None else int(one) for one in given]
        self._observation = self._encode(self.sim.reset(seeds))
        return self._observation, {}

    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[FeatureDict, npt.NDArray[Any], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Decide one request of every device."""
        step = self.sim.step(actions) if self.cost_model.job is None else self.sim.step(actions[:, 0], actions[:, 1])
        infos: dict[str, Any] = {
            "num_ended": np.bincount(step.ended.env, minlength=self.num_envs),
            "num_answered": np.bincount(step.ended.env, step.ended.answered, self.num_envs).astype(np.int64),
        }
        if step.done.any():
            infos |= {"final_obs": self._observation, "_final_obs": step.done.copy()}
        self._observation = self._encode(step.raw)
        return self._observation, step.reward, step.done, np.zeros(self.num_envs, dtype=np.bool_), infos

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """bool [N, K], or [N, K + T] with taus: which actions the observed requests may be decided by."""
        masks = [self._observation[name] for name in ("mask", "tau_mask") if name in self._observation]
        mask: npt.NDArray[np.bool_] = np.concatenate(masks, axis=1).astype(np.bool_)
        return mask

    def _encode(self, raw: RawState) -> FeatureDict:
        return self._encoder.encode(raw).as_dict()
