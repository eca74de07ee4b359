"""The algorithms must solve a small offloading problem whose optimum is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms import make_dqn, make_ppo
from agents.configs import DQNConfig, PPOConfig
from agents.vecenv import WorldVecEnv
from tests.agents import shared_queue
from tests.agents.shared_queue import BACKLOGS, GAMMA, MYOPIC_INDEX, SharedQueue, best_policy, costs, mean_cost


def _decisions(agent: BaseAlgorithm) -> np.ndarray:
    actions, _ = agent.predict(shared_queue.features(BACKLOGS), deterministic=True)
    return np.asarray(actions)


def _ppo(seed: int) -> BaseAlgorithm:
    config = PPOConfig(gamma=GAMMA, n_steps=16, batch_size=256, kappa=4.0)
    return make_ppo(WorldVecEnv(SharedQueue(64, seed)), config, MYOPIC_INDEX, 1.0, seed)


def _dqn(seed: int) -> BaseAlgorithm:
    config = DQNConfig(gamma=GAMMA, buffer_size=20_000, learning_starts=500, target_update_interval=1000)
    return make_dqn(WorldVecEnv(SharedQueue(64, seed)), config, MYOPIC_INDEX, 1.0, seed)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_problem_punishes_looking_one_request_ahead() -> None:
    """Greedy is far from the optimum here, so solving it takes learning."""
    greedy = costs(BACKLOGS).argmin(axis=1)
    assert mean_cost(greedy) > 1.5 * mean_cost(best_policy())


@pytest.mark.parametrize("make", [_ppo, _dqn], ids=["ppo", "dqn"])
def test_an_untrained_agent_is_greedy(make) -> None:  # type: ignore[no-untyped-def]
    """Before learning, the deterministic agent takes the candidate with the least cost of its own."""
    np.testing.assert_array_equal(_decisions(make(seed=3)), costs(BACKLOGS).argmin(axis=1))


@pytest.mark.parametrize("make", [_ppo, _dqn], ids=["ppo", "dqn"])
@pytest.mark.timeout(120)
def test_learning_finds_the_optimum(make) -> None:  # type: ignore[no-untyped-def]
    """From greedy's start, training comes within 3 % of the exact optimum."""
    agent = make(seed=1)
    agent.learn(40_000)
    assert mean_cost(_decisions(agent)) <= 1.03 * mean_cost(best_policy())
