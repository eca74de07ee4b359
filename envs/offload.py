"""The one Gymnasium environment: a decision per request, over any `System`, live or simulated."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from envs.costs import CostModel
from envs.features import Encoder, Features
from envs.reward import TERMS, Objective, cost_terms
from envs.system import Step, System
from runtime.errors import PeerError, SystemFailure
from runtime.messages import Outcome

FeatureDict = dict[str, npt.NDArray[Any]]


class OffloadEnv(gymnasium.Env[FeatureDict, np.int64]):
    """Decide, request by request, where and how a model runs.

    | | |
    |---|---|
    | Action space | `Discrete(K)`: index into the cost model's decisions |
    | Observation space | `Dict(state: Box(S), candidates: Box(K, F), mask: MultiBinary(K))`, tables in envs/features.py |
    | Reward | minus the cost of the requests that ended since the last decision (envs/reward.py) |
    | Episode end | terminated after the last request's end; truncated when the system fails |

    A request's outcome usually comes later than the next decision: `info["outcomes"]` has those that came, each with
    its request's id.  The rewards of an episode sum to minus the costs of all its requests, in whatever order they end.

    info: `outcomes` (tuple of Outcome), `reward_terms` (their sum is the reward), `decision` and `request_id` (what was
    decided for which request), `is_success` (share of the episode's requests so far that were answered in time), and
    `error` (text) when the system failed.

    An action whose mask is 0 is executed like any other: its request then fails, or not, by itself.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # gymnasium's own declaration

    def __init__(self, system: System, cost_model: CostModel, objective: Objective | None = None) -> None:
        """`objective` prices outcomes; the cost model's own when it is None.  Closing the environment closes the system."""
        self.cost_model = cost_model
        self.objective = objective or cost_model.objective
        self._system = system
        self._encoder = Encoder(cost_model)
        self.observation_space: spaces.Dict[Any] = self._encoder.space  # type: ignore[assignment]  # the base class is narrower
        self.action_space = spaces.Discrete(cost_model.num_decisions)
        self._step: Step | None = None
        self._features: Features | None = None
        self._early: tuple[Outcome, ...] = ()
        self._num_ended = self._num_answered = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[FeatureDict, dict[str, Any]]:
        """Start the episode of `seed`; without one, of a seed drawn from the environment's generator.

        Raises SystemFailure when the system does not start, or has no request to decide.
        """
        super().reset(seed=seed)
        self._step = None
        step = self._system.reset(seed if seed is not None else int(self.np_random.integers(2**31)))
        if step.observation is None:
            raise SystemFailure("the system ended the episode before any request needed a decision; is its workload empty?")
        self._num_ended = self._num_answered = 0
        self._early = step.outcomes
        self._step = step
        return self._encode(step), {"outcomes": step.outcomes, "request_id": step.observation.request_id}

    def step(self, action: np.int64) -> tuple[FeatureDict, float, bool, bool, dict[str, Any]]:
        """Decide the observed request; see the class for what comes back."""
        if self._step is None or self._step.observation is None:
            raise SystemFailure("no request awaits a decision; call reset first")
        decision = self.cost_model.decisions[int(action)]
        info: dict[str, Any] = {"decision": decision, "request_id": self._step.observation.request_id}
        try:
            step = self._system.execute(decision)
        except (SystemFailure, PeerError) as exc:  # the harness broke, the problem did not end: truncate, never crash training
            self._step = None
            info |= {"error": str(exc), "outcomes": (), "reward_terms": dict.fromkeys(TERMS, 0.0), "is_success": self._success()}
            return self._observation(), 0.0, False, True, info
        outcomes, self._early = self._early + step.outcomes, ()
        self._step = step
        terms = self._reward_terms(outcomes)
        info |= {"outcomes": outcomes, "reward_terms": terms, "is_success": self._success()}
        observation = self._observation() if step.observation is None else self._encode(step)
        return observation, sum(terms.values()), step.observation is None, False, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """bool [K]: which actions the observed request may be decided by.  The name is sb3-contrib's."""
        if self._features is None:
            raise SystemFailure("nothing is observed yet; call reset first")
        mask: npt.NDArray[np.bool_] = self._features.mask[0]
        return mask

    def close(self) -> None:
        """Close the system; may be called twice."""
        self._system.close()

    def _encode(self, step: Step) -> FeatureDict:
        if step.observation is not None:
            self._features = self._encoder.encode_one(step.observation)
        return self._observation()

    def _observation(self) -> FeatureDict:
        """The last features; copies, because callers keep them."""
        features = self._features
        assert features is not None
        return {"state": features.state[0].copy(), "candidates": features.candidates[0].copy(), "mask": features.mask[0].astype(np.int8)}

    def _reward_terms(self, outcomes: tuple[Outcome, ...]) -> dict[str, float]:
        """Minus the sum of each cost term; also counts the outcomes."""
        terms = dict.fromkeys(TERMS, 0.0)
        for outcome in outcomes:
            self._num_ended += 1
            self._num_answered += outcome.status == "ok"
            for name, value in cost_terms(self.objective, outcome).items():
                terms[name] -= value
        return terms

    def _success(self) -> float:
        return self._num_answered / self._num_ended if self._num_ended else 1.0
