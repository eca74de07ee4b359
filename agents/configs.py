"""Settings of the learning algorithms.  What they give, and what was tried, is in docs/training.md."""

from __future__ import annotations

from typing import Literal

import msgspec

from agents.network import Activation

Algorithm = Literal["ppo", "dqn"]


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The networks of both algorithms."""

    hidden_size: int = 32
    """Of the candidate scorer."""
    value_size: int = 64
    """Of the state value."""
    activation: Activation = "tanh"


class PPOConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Proximal policy optimisation.  Source: Schulman et al., arXiv 1707.06347; parameters as in stable-baselines3."""

    network: NetworkConfig = NetworkConfig()
    kappa: float = 20.0
    """Initial score per unit of myopic cost: sharp enough to stay near greedy, soft enough to explore."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this before learning: unit-sized returns."""
    shaping: bool = True
    learning_rate: float = 3e-3
    """Falls linearly to `final_learning_rate_fraction` of itself."""
    final_learning_rate_fraction: float = 0.1
    n_steps: int = 32
    batch_size: int = 256
    n_epochs: int = 4
    gamma: float = 0.97
    gae_lambda: float = 0.6
    entropy_coefficient: float = 0.01
    clip_range: float = 0.2
    value_coefficient: float = 0.5
    max_grad_norm: float = 10.0


TAU_CONFIG = PPOConfig(gamma=0.999, gae_lambda=0.98, n_steps=128, batch_size=1024, reward_scale=0.2, entropy_coefficient=0.003)
"""Of the taus of a training job: what they bring comes many requests later."""


class DQNConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deep Q-learning.  Source: Mnih et al., Nature 2015; parameters as in stable-baselines3."""

    network: NetworkConfig = NetworkConfig()
    reward_scale: float = 1.0
    shaping: bool = True
    learning_rate: float = 1e-3
    final_learning_rate_fraction: float = 0.1
    buffer_size: int = 50_000
    learning_starts: int = 2_000
    batch_size: int = 256
    gradient_steps: int = 2
    """Per step of all environments together."""
    gamma: float = 0.97
    target_update_interval: int = 4_000
    exploration_sharpness: float = 10.0
    """Exploring draws candidates by softmax of this times Q, in units of cost: bad ideas are tried less than promising ones."""
    exploration_initial: float = 1.0
    exploration_final: float = 0.05
    exploration_fraction: float = 0.5
    max_grad_norm: float = 10.0
