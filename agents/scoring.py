"""Policies for stable-baselines3 that score candidate decisions with one small shared network.

    logit_k = kappa * (net(state, candidate_k) - myopic_cost_k)

`net`'s last layer starts at zero, so an untrained policy is the greedy heuristic; training changes
it where looking one request ahead is not enough.  Number and meaning of the candidates may differ between
models: the network only sees their physical features.  `agents/network.py` is the same function in numpy.

Taus of a training job are candidates too, of other features, with a policy of their own.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from agents.network import MASKED_LOGIT, Activation, Float32, NetworkShape

ObsTensors = dict[str, Tensor]
"""{"state": [N, S], "candidates": [N, K, F], "mask": [N, K]}; float32"""


class ScoringConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a scoring policy is made of, besides the sizes that its observation space gives."""

    hidden_size: int = 32
    value_size: int = 64
    activation: Activation = "tanh"
    kappa: float = 8.0
    """Score per unit of myopic cost, before anything is learned.  The larger, the less the greedy start explores."""
    myopic_index: int
    """Candidate column with the myopic cost above the best candidate's."""
    myopic_scale: float = 1.0
    """Cost per unit of that column."""

    def shape(self, space: spaces.Dict) -> NetworkShape:
        """The scorer's sizes for an observation space {"state" [S], "candidates" [K, F], "mask" [K]}."""
        return NetworkShape(
            state_size=cast(tuple[int, ...], space["state"].shape)[0],
            candidate_size=cast(tuple[int, ...], space["candidates"].shape)[1],
            hidden_size=self.hidden_size,
            activation=self.activation,
            myopic_index=self.myopic_index,
            myopic_scale=self.myopic_scale,
        )


class CandidateScorer(nn.Module):
    """score [N, K] of every candidate; masked ones get MASKED_LOGIT."""

    def __init__(self, shape: NetworkShape, kappa: float) -> None:
        """`kappa` > 0: how much a unit of myopic cost is worth before anything is learned; itself learnable."""
        super().__init__()
        self.shape = shape
        self.from_state = nn.Linear(shape.state_size, shape.hidden_size)
        self.from_candidate = nn.Linear(shape.candidate_size, shape.hidden_size, bias=False)
        self.hidden = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.output = nn.Linear(shape.hidden_size, 1, bias=False)
        self.activation = nn.Tanh() if shape.activation == "tanh" else nn.ReLU()
        self.log_kappa = nn.Parameter(torch.tensor(float(np.log(kappa))))
        self._initialise()

    def _initialise(self) -> None:
        # The first layer is one Linear over (state, candidate) that happens to be stored in two pieces.
        joined = torch.empty(self.shape.hidden_size, self.shape.state_size + self.shape.candidate_size)
        nn.init.orthogonal_(joined, gain=float(np.sqrt(2)))
        with torch.no_grad():
            self.from_state.weight.copy_(joined[:, : self.shape.state_size])
            self.from_candidate.weight.copy_(joined[:, self.shape.state_size :])
        nn.init.zeros_(self.from_state.bias)
        nn.init.orthogonal_(self.hidden.weight, gain=float(np.sqrt(2)))
        nn.init.zeros_(self.hidden.bias)
        nn.init.zeros_(self.output.weight)

    def forward(self, obs: ObsTensors) -> Tensor:
        """Scores [N, K]."""
        candidates = obs["candidates"]
        first = self.activation(self.from_candidate(candidates) + self.from_state(obs["state"]).unsqueeze(1))
        learned = self.output(self.activation(self.hidden(first))).squeeze(-1)
        myopic = candidates[:, :, self.shape.myopic_index] * self.shape.myopic_scale
        scores: Tensor = self.log_kappa.exp() * (learned - myopic)
        return scores.masked_fill(obs["mask"] == 0, MASKED_LOGIT)

    def arrays(self) -> dict[str, Float32]:
        """The weights as `NetworkShape.tensor_shapes` names them."""
        tensors = {
            "candidate_weight": self.from_candidate.weight,
            "hidden_bias": self.hidden.bias,
            "hidden_weight": self.hidden.weight,
            "kappa": self.log_kappa.exp(),
            "output_weight": self.log_kappa.exp() * self.output.weight.squeeze(0),
            "state_bias": self.from_state.bias,
            "state_weight": self.from_state.weight,
        }
        return {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in tensors.items()}


class StateValue(nn.Module):
    """value [N, 1] of a state, from it, the myopically best candidate and the mean of the allowed ones."""

    def __init__(self, shape: NetworkShape, hidden_size: int) -> None:
        super().__init__()
        self.myopic_index = shape.myopic_index
        size = shape.state_size + 2 * shape.candidate_size
        self.layers = nn.Sequential(nn.Linear(size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, hidden_size), nn.Tanh())
        self.output = nn.Linear(hidden_size, 1)

    def forward(self, obs: ObsTensors) -> Tensor:
        """Values [N, 1]."""
        candidates, mask = obs["candidates"], obs["mask"]
        best = candidates[:, :, self.myopic_index].masked_fill(mask == 0, float("inf")).argmin(dim=1)
        of_best = candidates[torch.arange(len(best)), best]
        weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        mean = torch.einsum("nk,nkf->nf", weights, candidates)
        value: Tensor = self.output(self.layers(torch.cat([obs["state"], of_best, mean], dim=1)))
        return value


class PassThrough(BaseFeaturesExtractor):
    """Hands the dictionary of features on as it is: the networks here know its parts."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, features_dim=1)

    def forward(self, observations: ObsTensors) -> ObsTensors:
        """The same dictionary."""
        return observations


class CandidateScoringPolicy(ActorCriticPolicy):
    """For PPO: a categorical distribution over candidates by their scores, and a value network."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        scoring: ScoringConfig,
        **kwargs: Any,
    ) -> None:
        self.scoring = scoring
        kwargs["features_extractor_class"] = PassThrough
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        space = cast(spaces.Dict, self.observation_space)
        shape = self.scoring.shape(space)
        self.scorer = CandidateScorer(shape, self.scoring.kappa)
        self.value = StateValue(shape, self.scoring.value_size)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]  # torch types `lr` on the subclasses only

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [N], values [N, 1] and log-probabilities [N]."""
        features = self._features(obs)
        distribution = self._distribution(features)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.value(features), distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values [N, 1], log-probabilities [N] and entropies [N] of given actions."""
        features = self._features(obs)
        distribution = self._distribution(features)
        return self.value(features), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """The distribution over candidates."""
        return self._distribution(self._features(obs))

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Values [N, 1]."""
        value: Tensor = self.value(self._features(obs))
        return value

    def _features(self, obs: PyTorchObs) -> ObsTensors:
        return cast(ObsTensors, self.extract_features(obs))

    def _distribution(self, features: ObsTensors) -> Distribution:
        return cast(CategoricalDistribution, self.action_dist).proba_distribution(action_logits=self.scorer(features))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"scoring": self.scoring}


class ScoringQNetwork(QNetwork):
    """Q(s, k) = value(s) + kappa * (net(s, candidate_k) - myopic_cost_k), masked.  The value is common to all candidates."""

    def __init__(self, observation_space: spaces.Dict, action_space: spaces.Discrete, scoring: ScoringConfig, **kwargs: Any) -> None:
        super().__init__(observation_space, action_space, **kwargs)
        self.scoring = scoring
        shape = scoring.shape(observation_space)
        self.q_net = nn.Sequential()  # the plain MLP of the base class is not used
        self.scorer = CandidateScorer(shape, scoring.kappa)
        self.value = StateValue(shape, scoring.value_size)
        nn.init.zeros_(self.value.output.weight)

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Q-values [N, K], masked candidates at MASKED_LOGIT."""
        features = cast(ObsTensors, self.extract_features(obs, self.features_extractor))
        scores: Tensor = self.scorer(features)
        return torch.where(features["mask"] == 0, scores, scores + self.value(features))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"scoring": self.scoring}


class CandidateScoringDQNPolicy(DQNPolicy):
    """For DQN: the same scorer as Q-values over a common state value."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        scoring: ScoringConfig,
        **kwargs: Any,
    ) -> None:
        self.scoring = scoring
        kwargs["features_extractor_class"] = PassThrough
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def make_q_net(self) -> ScoringQNetwork:
        """One Q-network; called for the online and the target one."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return ScoringQNetwork(scoring=self.scoring, **arguments).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"scoring": self.scoring}
