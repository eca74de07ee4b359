"""The one Gymnasium environment: a decision per request, over any `System`, live or simulated."""

from __future__ import annotations

from typing import Any

import gymnasium
import msgspec
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from envs.costs import CostModel
from envs.features import Encoder, Features
from envs.reward import TERMS, TRAINING_TERM, Objective, cost_terms
from envs.system import Step, System
from runtime.errors import PeerError, SystemFailure
from runtime.messages import Decision, Observation, Outcome

FeatureDict = dict[str, npt.NDArray[Any]]


Action = np.int64 | npt.NDArray[np.int64]
"""A decision's index, or [2] with the row of a tau."""


def action_space(cost_model: CostModel) -> spaces.Discrete | spaces.MultiDiscrete:
    """Of one request: its decision, and where a training job's tau is decided, that."""
    if cost_model.job is None:
        return spaces.Discrete(cost_model.num_decisions)
    return spaces.MultiDiscrete([cost_model.num_decisions, len(cost_model.job.taus)])


class OffloadEnv(gymnasium.Env[FeatureDict, Action]):
    """Decide, request by request, where and how a model runs.

    | | |
    |---|---|
    | Action space | `Discrete(K)`: index into the cost model's decisions |
    | Observation space | `Dict(state: Box(S), candidates: Box(K, F), mask: MultiBinary(K))`, tables in envs/features.py |
    | Reward | minus the cost of the requests that ended since the last decision (envs/reward.py) |
    | Episode end | terminated after the last request's end; truncated when the system fails |

    A request's outcome usually comes later than the next decision: `info["outcomes"]` of a step has those that came since the
    last one, each once and with its request's id; of those that came before the first decision the first step tells.
    The rewards of an episode sum to minus the costs of all its requests, in whatever order they end.

    info: `outcomes` (tuple of Outcome), `reward_terms` (their sum is the reward), `decision` and `request_id` (what was
    decided for which request), `is_success` (share of the episode's requests so far that were answered in time), and
    `error` (text) when the system failed.

    An action whose mask is 0 is executed like any other: its request then fails, or not, by itself.

    With a training job beside the requests whose tau is decided (`cost_model.job`), an action is two, `MultiDiscrete([K, T])`:
    the second, a row of the job's taus, counts where one is due.  Observations also have `taus: Box(T, G)` and
    `tau_mask: MultiBinary(T)`, and the reward a term for what the job's loss fell by.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # gymnasium's own declaration

    def __init__(self, system: System, cost_model: CostModel, objective: Objective | None = None) -> None:
        """`objective` prices outcomes; the cost model's own when it is None.  Closing the environment closes the system."""
        self.cost_model = cost_model
        self.objective = objective or cost_model.objective
        self._system = system
        self._encoder = Encoder(cost_model)
        self.observation_space: spaces.Dict[Any] = self._encoder.space  # type: ignore[assignment]  # the base class is narrower
        self.action_space: spaces.Space[Any] = action_space(cost_model)
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
            raise SystemFailure(
                "the system ended the episode before any request needed a decision of ours: its workload is empty, or this host is"
                " too busy for any to come within the device's decision budget"
            )
        self._num_ended = self._num_answered = 0
        self._early = step.outcomes
        self._step = step
        return self._encode(step), {"request_id": step.observation.request_id}

    def step(self, action: Action) -> tuple[FeatureDict, float, bool, bool, dict[str, Any]]:
        """Decide the observed request; see the class for what comes back."""
        if self._step is None or self._step.observation is None:
            raise SystemFailure("no request awaits a decision; call reset first")
        decision = self._decision(action, self._step.observation)
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
        if self.cost_model.job is not None:
            terms[TRAINING_TERM] = self.objective.loss_drop * step.loss_drop
        info |= {"outcomes": outcomes, "reward_terms": terms, "is_success": self._success()}
        observation = self._observation() if step.observation is None else self._encode(step)
        return observation, sum(terms.values()), step.observation is None, False, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """bool [K], or [K + T] with taus: which actions the observed request may be decided by.  The name is sb3-contrib's."""
        if self._features is None:
            raise SystemFailure("nothing is observed yet; call reset first")
        mask: npt.NDArray[np.bool_] = self._features.mask[0]
        return mask if self._features.tau_mask is None else np.concatenate((mask, self._features.tau_mask[0]))

    def close(self) -> None:
        """Close the system; may be called twice."""
        self._system.close()

    def _encode(self, step: Step) -> FeatureDict:
        if step.observation is not None:
            self._features = self._encoder.encode_one(step.observation)
        return self._observation()

    def _observation(self) -> FeatureDict:
        """The last features; copies, because callers keep them."""
        assert self._features is not None
        return {name: array[0].copy() for name, array in self._features.as_dict().items()}

    def _decision(self, action: Action, observation: Observation) -> Decision:
        parts, job = np.atleast_1d(action), self.cost_model.job
        decision: Decision = self.cost_model.decisions[int(parts[0])]
        if job is None or observation.job is None or not observation.job.tau_due:
            return decision
        return msgspec.structs.replace(decision, tau=job.taus[int(parts[1])])

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
