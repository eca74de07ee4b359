"""The Gymnasium environment, one at a time and many at once, and its ids."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import msgspec
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

import drlctl
import envs
from envs.costs import CostModel
from envs.features import CANDIDATE_FIELDS, STATE_FIELDS
from envs.make import catalogued, make_sim, resolve
from envs.offload import OffloadEnv
from envs.register import LIVE_ID, SIM_ID, register_envs
from envs.reward import TERMS, cost
from envs.scenario import load_scenario
from envs.simulated import SimulatedSystem
from envs.system import Step
from envs.vector import OffloadVectorEnv
from runtime.errors import InvalidConfig, InvalidProfile, SystemFailure
from runtime.messages import Decision
from runtime.profile import save_profile
from runtime.topology import LinkConfig
from tests.envs.busy import busy_scenario
from tests.envs.profiles import make_profile


class Breaking(SimulatedSystem):
    """A system whose harness breaks at a given decision, or that has nothing to decide."""

    def __init__(self, breaks_at: int, *, empty: bool = False) -> None:
        super().__init__(busy_scenario(), make_profile())
        self._left, self._empty = breaks_at, empty
        self.num_closed = 0

    def reset(self, seed: int) -> Step:
        step = super().reset(seed)
        return Step(observation=None, outcomes=()) if self._empty else step

    def execute(self, decision: Decision) -> Step:
        self._left -= 1
        if self._left < 0:
            raise SystemFailure("the edge's process is gone")
        return super().execute(decision)

    def close(self) -> None:
        self.num_closed += 1


@pytest.fixture(scope="module")
def cost_model() -> CostModel:
    """Of the catalogue of `congested` with the hand-made profile."""
    return catalogued(busy_scenario(), make_profile(), "validation")


@pytest.fixture
def env(cost_model: CostModel) -> Iterator[OffloadEnv]:
    """Over the simulator."""
    made = OffloadEnv(SimulatedSystem(busy_scenario(), make_profile()), cost_model)
    yield made
    made.close()
    made.close()


def test_an_episode_s_rewards_sum_to_its_costs(env: OffloadEnv) -> None:
    """Whatever ends when: all outcomes come once, their terms are the rewards, and the last step is terminated."""
    env.reset(seed=3)
    env.action_space.seed(3)
    total, ids, outcomes, done = 0.0, [], [], False
    while not done:
        observation, reward, done, truncated, info = env.step(env.action_space.sample())
        assert not truncated
        assert env.observation_space.contains(observation)
        assert set(info["reward_terms"]) == set(TERMS)
        assert reward == pytest.approx(sum(info["reward_terms"].values()))
        assert env.cost_model.find(info["decision"]) >= 0
        total += reward
        ids.append(info["request_id"])
        outcomes += info["outcomes"]
    assert sorted(outcome.request_id for outcome in outcomes) == list(range(300))
    assert ids == sorted(set(ids))
    assert total == pytest.approx(-sum(cost(env.objective, outcome) for outcome in outcomes))
    assert info["is_success"] == pytest.approx(np.mean([outcome.status == "ok" for outcome in outcomes]))


def test_the_same_seed_is_the_same_episode(env: OffloadEnv) -> None:
    """Observations and rewards repeat; without a seed another episode comes."""

    def play(seed: int | None) -> list[float]:
        env.reset(seed=seed)
        return [env.step(np.int64(index % env.action_space.n))[1] for index in range(60)]  # type: ignore[attr-defined]

    assert play(5) == play(5)
    assert play(None) != play(None)


def test_a_broken_system_truncates() -> None:
    """It never raises out of `step`, and says what broke."""
    system = Breaking(4)
    env = OffloadEnv(system, catalogued(busy_scenario(), make_profile(), "validation"))
    env.reset(seed=1)
    for _ in range(4):
        assert not env.step(np.int64(0))[3]
    observation, reward, terminated, truncated, info = env.step(np.int64(0))
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert "the edge's process is gone" in info["error"]
    assert env.observation_space.contains(observation)
    with pytest.raises(SystemFailure, match="reset first"):
        env.step(np.int64(0))
    env.close()
    assert system.num_closed == 1


def test_an_empty_episode_is_a_failure(cost_model: CostModel) -> None:
    """There is no observation to give."""
    with pytest.raises(SystemFailure, match="empty"):
        OffloadEnv(Breaking(9, empty=True), cost_model).reset(seed=1)


def test_masks_are_those_observed(env: OffloadEnv) -> None:
    """`action_masks` is what maskable algorithms ask for; before an episode there is none."""
    with pytest.raises(SystemFailure, match="reset first"):
        env.action_masks()
    observation, _ = env.reset(seed=1)
    assert env.action_masks().dtype == np.bool_
    assert (env.action_masks() == observation["mask"]).all()


@pytest.mark.filterwarnings("ignore:Your observation candidates has an unconventional shape")
def test_both_libraries_accept_it(env: OffloadEnv) -> None:
    """Gymnasium's checker and stable-baselines3's."""
    check_env(env, skip_render_check=True)
    check_env_for_sb3(env)


def test_ids_make_environments() -> None:
    """By id, with keyword arguments; the spec can be written down and read back."""
    register_envs()
    with gymnasium.make(SIM_ID, scenario=busy_scenario(), profile=make_profile(), disable_env_checker=True) as env:
        observation, _ = env.reset(seed=1)
        assert observation["state"].shape == (len(STATE_FIELDS),)
        assert observation["candidates"].shape[1:] == (len(CANDIDATE_FIELDS),)
    assert gymnasium.envs.registration.EnvSpec.from_json(gymnasium.spec(SIM_ID).to_json()).id == SIM_ID
    assert gymnasium.spec(LIVE_ID).nondeterministic
    assert Path(envs.__file__).resolve().parent == Path(__file__).resolve().parents[2] / "envs"


def test_scenarios_and_profiles_are_found_by_name_and_file(tmp_path: Path) -> None:
    """A shipped name, a file, or the struct; what does not fit is refused."""
    save_profile(make_profile(), tmp_path / "profile.json")
    assert resolve("congested", tmp_path / "profile.json") == (load_scenario("congested"), make_profile())
    assert resolve(busy_scenario(), None)[1].model == "digits-cnn"
    with pytest.raises(InvalidConfig, match="no scenario"):
        make_sim("nowhere")
    with pytest.raises(InvalidProfile, match="profile that model"):
        make_sim(busy_scenario(), msgspec.structs.replace(make_profile(), model="other"))
    with pytest.raises(InvalidProfile, match="comes with drlctl"):
        make_sim(msgspec.structs.replace(busy_scenario(), model="other"))


@pytest.mark.parametrize("name", ["congested", "calm", "cellular"])
def test_the_shipped_profile_serves_scenarios_of_the_same_machines(name: str) -> None:
    """Their links are emulated, so theirs are their own; other rates of one's own are fine too."""
    assert resolve(name, None)[1].scenario == "congested"
    scenario = load_scenario(name)
    slower = msgspec.structs.replace(scenario.topology.uplink, delay_s=0.05)
    changed = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, uplink=slower))
    assert resolve(changed, None)[0] == changed


def test_a_profile_of_other_machines_is_refused() -> None:
    """Of tiers at another pace, of a link that is real where another is emulated, and of nobody knows what."""
    with pytest.raises(InvalidProfile, match="another device .*0.06.*0.016.*drlctl profile levels"):
        make_sim("levels")
    calm = load_scenario("calm")
    real = msgspec.structs.replace(calm, topology=msgspec.structs.replace(calm.topology, wan=LinkConfig(emulated=False)))
    with pytest.raises(InvalidProfile, match="a real wan"):
        resolve(real, None)
    own = msgspec.structs.replace(make_profile(real), scenario="my own")
    assert resolve(real, own) == (real, own)
    with pytest.raises(InvalidProfile, match="another topology"):
        resolve(calm, own)


def output_of(code: str) -> list[str]:
    """Lines that a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("order", ["import drlctl, gymnasium", "import gymnasium, drlctl"])
def test_importing_drlctl_registers_and_is_light(order: str) -> None:
    """In either order; importing it alone loads neither Gymnasium nor numpy, and never torch."""
    code = (
        f"import sys; {order}; print('{SIM_ID}' in gymnasium.registry, '{LIVE_ID}' in gymnasium.registry, 'torch' in sys.modules);"
        "import envs.register; print('torch' in sys.modules)"
    )
    alone = "import sys, drlctl; print([name for name in ('gymnasium', 'numpy', 'torch') if name in sys.modules])"
    assert output_of(code) == ["True True False", "False"]
    assert output_of(alone) == ["[]"]
    assert drlctl.__version__ == importlib.metadata.version("drlctl")


def test_many_at_once_are_each_what_one_is(env: OffloadEnv, cost_model: CostModel) -> None:
    """Environment n of the vector form sees and earns what OffloadEnv does with its seed."""
    vector = OffloadVectorEnv(busy_scenario(), make_profile(), 3, decisions=cost_model.decisions, pool_size=3)
    actions = np.random.default_rng(0).integers(cost_model.num_decisions, size=(300, 3))
    many, _ = vector.reset(seed=10)
    one, _ = env.reset(seed=11)
    for row in actions[:-1]:
        for name, value in one.items():
            np.testing.assert_allclose(many[name][1], value, rtol=1e-5, atol=1e-5)
        many, rewards, *_ = vector.step(row)
        one, reward, *_ = env.step(row[1])
        assert rewards[1] == pytest.approx(reward, abs=1e-9)
    many, rewards, terminated, truncated, infos = vector.step(actions[-1])
    assert rewards[1] == pytest.approx(env.step(actions[-1][1])[1], abs=1e-9)
    assert terminated.all()
    assert not truncated.any()
    assert infos["final_obs"]["state"].shape == many["state"].shape
    assert infos["_final_obs"].all()


def test_the_vector_form_keeps_gymnasium_s_word() -> None:
    """Spaces are batched, observations lie in them, episodes go on by themselves, seeds may be a list or none."""
    env = gymnasium.make_vec(SIM_ID, num_envs=4, scenario=busy_scenario(), profile=make_profile(), pool_size=8)
    assert env.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.SAME_STEP
    for seed in (None, 3, [1, 2, None, 4]):
        observation, _ = env.reset(seed=seed)
        assert env.observation_space.contains(observation)
    env.action_space.seed(0)
    num_ended = np.zeros(4, dtype=np.int64)
    for _ in range(2 * 300):
        observation, _, _, _, infos = env.step(env.action_space.sample())
        num_ended += infos["num_ended"]
        assert (infos["num_answered"] <= infos["num_ended"]).all()
    assert env.observation_space.contains(observation)
    assert (num_ended == 600).all()
    assert env.unwrapped.action_masks().shape == (4, env.single_action_space.n)  # type: ignore[attr-defined]
    env.close()
