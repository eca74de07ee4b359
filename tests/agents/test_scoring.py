"""The scoring policies keep stable-baselines3's promises: saving, masks, distributions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms import ExploringDQN, make_dqn, make_ppo, scorer_of
from agents.configs import DQNConfig, PPOConfig
from agents.network import MASKED_LOGIT
from agents.scoring import CandidateScoringDQNPolicy, CandidateScoringPolicy
from agents.vecenv import FeatureDict, WorldVecEnv
from tests.agents import shared_queue
from tests.agents.shared_queue import BACKLOGS, MYOPIC_INDEX, SharedQueue

MakeAgent = Callable[[], BaseAlgorithm]


def _ppo() -> BaseAlgorithm:
    return make_ppo(WorldVecEnv(SharedQueue(4, 0)), PPOConfig(n_steps=8, batch_size=16), MYOPIC_INDEX, 1.0, seed=0)


def _dqn() -> BaseAlgorithm:
    config = DQNConfig(buffer_size=500, learning_starts=20, batch_size=16)
    return make_dqn(WorldVecEnv(SharedQueue(4, 0)), config, MYOPIC_INDEX, 1.0, seed=0)


def _masked() -> FeatureDict:
    """All backlogs, with the candidate that greedy would take masked."""
    features = shared_queue.features(BACKLOGS)
    best = features["candidates"][:, :, MYOPIC_INDEX].argmin(axis=1)
    features["mask"][np.arange(len(BACKLOGS)), best] = 0
    return features


@pytest.fixture(params=[_ppo, _dqn], ids=["ppo", "dqn"])
def make(request: pytest.FixtureRequest) -> MakeAgent:
    """A maker of each algorithm."""
    maker: MakeAgent = request.param
    return maker


def test_a_saved_agent_decides_as_before(make: MakeAgent, tmp_path: Path) -> None:
    """stable-baselines3's own save and load bring back network, kappa and decisions."""
    agent = make()
    agent.learn(64)
    agent.save(tmp_path / "agent.zip")
    loaded = type(agent).load(tmp_path / "agent.zip", device="cpu")
    features = shared_queue.features(BACKLOGS)
    np.testing.assert_array_equal(agent.predict(features, deterministic=True)[0], loaded.predict(features, deterministic=True)[0])
    for name, array in scorer_of(agent).arrays().items():
        np.testing.assert_array_equal(array, scorer_of(loaded).arrays()[name])


def test_a_policy_alone_can_be_saved_too(make: MakeAgent, tmp_path: Path) -> None:
    """`policy.save` and `load` know how the policy was constructed."""
    policy = make().policy
    policy.save(tmp_path / "policy.pth")
    kind = CandidateScoringPolicy if isinstance(policy, CandidateScoringPolicy) else CandidateScoringDQNPolicy
    loaded = kind.load(tmp_path / "policy.pth", device="cpu")
    features = shared_queue.features(BACKLOGS)
    np.testing.assert_array_equal(policy.predict(features, deterministic=True)[0], loaded.predict(features, deterministic=True)[0])


def test_masked_candidates_are_never_taken(make: MakeAgent) -> None:
    """Neither deterministically nor while exploring."""
    agent, features = make(), _masked()
    if isinstance(agent, ExploringDQN):
        agent.exploration_rate = 1.0
    for deterministic in (True, *[False] * 50):
        actions, _ = agent.predict(features, deterministic=deterministic)
        assert (features["mask"][np.arange(len(BACKLOGS)), actions] == 1).all()


def test_exploring_tries_every_allowed_candidate() -> None:
    """DQN's softmax exploration leaves none out for ever."""
    agent = _dqn()
    assert isinstance(agent, ExploringDQN)
    agent.exploration_rate = 1.0
    features = shared_queue.features(BACKLOGS[:1])
    taken = {int(agent.predict(features, deterministic=False)[0][0]) for _ in range(500)}
    assert taken == {0, 1, 2}


def test_masks_leave_probabilities_entropy_and_values_finite() -> None:
    """A masked candidate has probability 0, and nothing becomes NaN, even with a single one left."""
    agent = _ppo()
    assert isinstance(agent, PPO)
    features = _masked()
    features["mask"][:] = 0
    features["mask"][:, 1] = 1
    tensors, _ = agent.policy.obs_to_tensor(features)
    actions = torch.ones(len(BACKLOGS), dtype=torch.long)
    values, log_probability, entropy = agent.policy.evaluate_actions(tensors, actions)
    assert torch.isfinite(values).all()
    np.testing.assert_allclose(log_probability.detach().numpy(), 0.0, atol=1e-6)
    assert entropy is not None
    np.testing.assert_allclose(entropy.detach().numpy(), 0.0, atol=1e-6)


def test_q_values_of_masked_candidates_cannot_be_a_target() -> None:
    """DQN's target takes the largest Q of the next state: a masked one must never be it."""
    agent = _dqn()
    assert isinstance(agent, ExploringDQN)
    tensors, _ = agent.policy.obs_to_tensor(_masked())
    with torch.no_grad():
        q_values = agent.q_net_target(tensors)
    assert (q_values[tensors["mask"] == 0] == MASKED_LOGIT).all()
    assert (q_values.max(dim=1).values > MASKED_LOGIT / 2).all()
