"""stable-baselines3 algorithms over candidate-scoring policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.configs import DQNConfig, PPOConfig
from agents.scoring import CandidateScorer, CandidateScoringDQNPolicy, CandidateScoringPolicy, ScoringConfig
from agents.vecenv import WorldVecEnv


class ExploringDQN(DQN):
    """DQN that explores among the allowed candidates by softmax of their Q-values, each environment by its own coin.

    stable-baselines3 draws uniformly, for all environments at once: among dozens of candidates that fills
    the queues with work no sensible policy would send, and learning sees little else.
    """

    exploration_sharpness: float = 10.0
    """Inverse temperature, per unit of Q."""

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Actions [N]; with probability `exploration_rate` each is drawn, else it is the best."""
        tensors, _ = self.policy.obs_to_tensor(observation)
        with torch.no_grad():
            q_values = self.q_net(tensors)
            actions = q_values.argmax(dim=1)
            if not deterministic:
                chances = torch.softmax(self.exploration_sharpness * q_values, dim=1)
                drawn = torch.multinomial(chances, 1).squeeze(1)
                explore = torch.rand(len(actions)) < self.exploration_rate
                actions = torch.where(explore, drawn, actions)
        return actions.numpy(), state

    def _sample_action(self, learning_starts: int, action_noise: Any = None, n_envs: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
        assert self._last_obs is not None, "learn() resets the environments first"
        actions, _ = self.predict(self._last_obs, deterministic=False)
        return actions, actions


def make_ppo(env: WorldVecEnv, config: PPOConfig, myopic_index: int, myopic_scale: float, seed: int) -> PPO:
    """PPO over candidates, untrained: its deterministic actions are greedy's."""
    scoring = ScoringConfig(
        hidden_size=config.network.hidden_size,
        value_size=config.network.value_size,
        activation=config.network.activation,
        kappa=config.kappa,
        myopic_index=myopic_index,
        myopic_scale=myopic_scale,
    )
    return PPO(
        CandidateScoringPolicy,
        env,
        learning_rate=linear_schedule(config.learning_rate, config.final_learning_rate_fraction),
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        ent_coef=config.entropy_coefficient,
        clip_range=config.clip_range,
        vf_coef=config.value_coefficient,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs={"scoring": scoring},
        seed=seed,
        device="cpu",
    )


def make_dqn(env: WorldVecEnv, config: DQNConfig, myopic_index: int, myopic_scale: float, seed: int) -> ExploringDQN:
    """DQN over candidates, untrained: its deterministic actions are greedy's."""
    scoring = ScoringConfig(
        hidden_size=config.network.hidden_size,
        value_size=config.network.value_size,
        activation=config.network.activation,
        kappa=config.reward_scale,
        myopic_index=myopic_index,
        myopic_scale=myopic_scale,
    )
    agent = ExploringDQN(
        CandidateScoringDQNPolicy,
        env,
        learning_rate=linear_schedule(config.learning_rate, config.final_learning_rate_fraction),
        buffer_size=config.buffer_size,
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        gamma=config.gamma,
        train_freq=1,
        gradient_steps=config.gradient_steps,
        target_update_interval=config.target_update_interval,
        exploration_initial_eps=config.exploration_initial,
        exploration_final_eps=config.exploration_final,
        exploration_fraction=config.exploration_fraction,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs={"scoring": scoring},
        seed=seed,
        device="cpu",
    )
    agent.exploration_sharpness = config.exploration_sharpness / config.reward_scale
    return agent


def scorer_of(agent: BaseAlgorithm) -> CandidateScorer:
    """The network that decides, whatever the algorithm."""
    policy = agent.policy
    scorer = policy.q_net.scorer if isinstance(policy, CandidateScoringDQNPolicy) else policy.scorer
    assert isinstance(scorer, CandidateScorer)
    return scorer


def linear_schedule(start: float, final_fraction: float) -> Callable[[float], float]:
    """A learning rate that falls linearly from `start` to `final_fraction * start`."""

    def rate(progress_remaining: float) -> float:
        return start * (final_fraction + (1 - final_fraction) * progress_remaining)

    return rate
