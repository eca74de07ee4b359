"""What the learner is paid is what requests cost."""

from __future__ import annotations

import numpy as np
import pytest

from agents.heldout import HeldOut, choose_always, choose_greedily
from agents.simworld import SimWorld
from agents.vecenv import WorldVecEnv
from envs.sim import VectorSim
from runtime.messages import Decision
from tests.agents.bundles import cost_models
from tests.agents.scenarios import short_scenario
from tests.envs.profiles import make_profile

NUM_ENVS, NUM_REQUESTS = 8, 40


def _decisions() -> tuple[Decision, ...]:
    return cost_models()[1].decisions


def _world(**options: float) -> SimWorld:
    scenario = short_scenario(NUM_REQUESTS)
    sim = VectorSim(scenario, make_profile(scenario), NUM_ENVS, decisions=_decisions(), pool_size=NUM_ENVS)
    return SimWorld(sim, seed=3, **options)  # type: ignore[arg-type]


def _play(world: SimWorld) -> tuple[np.ndarray, np.ndarray]:
    """Rewards [steps, N] and dones of two episodes, decided by the same random numbers whatever the world says."""
    rng = np.random.default_rng(0)
    world.reset()
    steps = [world.step(rng.integers(len(_decisions()), size=NUM_ENVS)) for _ in range(2 * NUM_REQUESTS)]
    return np.array([reward for _, reward, _ in steps]), np.array([done for _, _, done in steps])


def test_shaping_moves_rewards_but_keeps_their_sum() -> None:
    """Per episode and environment, shaped and plain rewards have the same sum, and differ step by step."""
    plain, dones = _play(_world(shaping=False))
    shaped, _ = _play(_world(shaping=True))
    assert dones[[NUM_REQUESTS - 1, 2 * NUM_REQUESTS - 1]].all()
    assert dones.sum() == 2 * NUM_ENVS
    for episode in (slice(0, NUM_REQUESTS), slice(NUM_REQUESTS, None)):
        np.testing.assert_allclose(shaped[episode].sum(axis=0), plain[episode].sum(axis=0), rtol=1e-9)
    assert not np.allclose(shaped, plain)


def test_usual_cost_and_scale_are_a_change_of_units() -> None:
    """(usual_cost - cost) * scale, request by request."""
    plain, _ = _play(_world(shaping=False))
    scaled, _ = _play(_world(shaping=False, usual_cost=0.7, reward_scale=3.0))
    np.testing.assert_allclose(scaled, 3.0 * (plain + 0.7))


def test_shaped_rewards_pay_for_a_decision_at_once() -> None:
    """With a single request in the system, its whole cost is in the reward of its own step."""
    shaped, _ = _play(_world(shaping=True))
    assert (shaped[0] < 0).all()


def test_features_are_what_the_space_says() -> None:
    """Names, shapes and dtypes; the mask as int8."""
    world = _world()
    features = world.reset()
    for name, array in features.items():
        assert array.shape == (NUM_ENVS, *world.space[name].shape)
        assert world.space.contains({key: values[0] for key, values in features.items()}), name


def test_the_vec_env_reports_each_episode_once() -> None:
    """Return and length of an episode are in the info of its last step."""
    env = WorldVecEnv(_world(shaping=False))
    env.reset()
    total, episodes = np.zeros(NUM_ENVS), []
    for _ in range(NUM_REQUESTS):
        _, rewards, dones, infos = env.step(np.zeros(NUM_ENVS, dtype=np.int64))
        total += rewards
        episodes += [info["episode"] for info in infos if "episode" in info]
    assert dones.all()
    assert [episode["l"] for episode in episodes] == [NUM_REQUESTS] * NUM_ENVS
    np.testing.assert_allclose([episode["r"] for episode in episodes], total, rtol=1e-5)


def test_held_out_costs_repeat_and_tell_policies_apart() -> None:
    """The same chooser gets the same costs each time; episodes are the same for all choosers."""
    scenario = short_scenario(NUM_REQUESTS)
    held_out = HeldOut(scenario, make_profile(scenario), _decisions(), num_episodes=6)
    greedy = held_out.costs(choose_greedily)
    assert greedy.shape == (6,)
    np.testing.assert_array_equal(greedy, held_out.costs(choose_greedily))
    device_only = held_out.costs(choose_always(len(_decisions()) - 1))
    assert greedy.mean() < device_only.mean()


def test_held_out_cost_is_the_simulators() -> None:
    """Minus the sum of the simulator's rewards, per request."""
    scenario = short_scenario(NUM_REQUESTS)
    held_out = HeldOut(scenario, make_profile(scenario), _decisions(), num_episodes=4, first_seed=50)
    sim = VectorSim(scenario, make_profile(scenario), 4, decisions=_decisions(), expected_error=True, pool_size=4)
    sim.reset(np.arange(50, 54))
    total = sum(sim.step(np.ones(4, dtype=np.int64)).reward for _ in range(NUM_REQUESTS))
    assert held_out.costs(choose_always(1)) == pytest.approx(-total / NUM_REQUESTS)
