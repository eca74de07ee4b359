"""An agent that decides for requests and for the job beside them: trained, bundled, loaded, and refused elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from agents.bundle import Bundle, load_bundle, save_bundle
from agents.configs import Algorithm, DQNConfig, PPOConfig
from agents.learned import BundlePolicy
from agents.runfolder import BUNDLE_NAME, TAUS_NAME, CurvePoint
from agents.tauworld import above_others
from agents.training import TrainResult, train
from envs.reward import Objective
from envs.scenario import Scenario
from envs.simulated import SimulatedSystem
from runtime.errors import InvalidBundle, InvalidConfig
from runtime.profile import Profile
from tests.agents.bundles import cost_models
from tests.agents.scenarios import short_scenario
from tests.envs.jobs import with_job
from tests.envs.profiles import make_profile
from tests.envs.simulation.test_job_sight import BESIDE


def scenario() -> Scenario:
    """Short, and a lower loss is worth something."""
    return msgspec.structs.replace(short_scenario(30), objective=Objective(loss_drop=3.0))


def beside() -> tuple[Scenario, Profile]:
    """It, with a job beside its requests."""
    return with_job(scenario(), make_profile(scenario()), BESIDE)


def run(out_dir: Path, algo: Algorithm = "ppo", *, timesteps: int = 1024, resume: bool = False) -> TrainResult:
    """A few updates."""
    config = PPOConfig(n_steps=8, batch_size=64, n_epochs=2, learning_rate=0.02) if algo == "ppo" else DQNConfig(learning_starts=64)
    return train(
        *beside(), algo=algo, seed=1, out_dir=out_dir, timesteps=timesteps, num_envs=16, config=config,
        decisions=cost_models()[1].decisions, num_evaluations=2, num_held_out=4, resume=resume,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run for all."""
    folder = tmp_path_factory.mktemp("beside")
    run(folder)
    return folder


def test_it_starts_as_greedy_with_the_best_fixed_tau(folder: Path) -> None:
    """Before anything is learned; the scores have every other one beside it."""
    bundle, curve = load_bundle(folder / BUNDLE_NAME), (folder / "curve.jsonl").read_text().splitlines()
    first = msgspec.json.decode(curve[0], type=dict[str, float | bool])
    assert first["learned_cost"] == pytest.approx(bundle.manifest.scores["greedy"])
    fixed = {tau: bundle.manifest.scores[f"greedy, tau {tau}"] for tau in BESIDE.taus}
    assert bundle.manifest.cost_model.job is not None
    assert bundle.manifest.cost_model.job.tau == min(fixed, key=fixed.__getitem__)
    assert min(fixed.values()) == pytest.approx(bundle.manifest.scores["greedy"])
    assert bundle.manifest.scores["learned"] <= bundle.manifest.scores["greedy"] + 1e-12


def test_its_bundle_decides_taus_where_they_are_due(folder: Path) -> None:
    """Written, read, and played: one tau for each round that its device hears of, none besides."""
    policy, system = BundlePolicy(load_bundle(folder / BUNDLE_NAME)), SimulatedSystem(*beside())
    observation, with_tau = system.reset(3).observation, 0
    while observation is not None:
        decision = policy.decide(observation)
        assert observation.job is not None
        assert (decision.tau is not None) == observation.job.tau_due
        with_tau += decision.tau is not None
        observation = system.execute(decision).observation
    assert with_tau > 1


def test_another_action_set_is_refused(folder: Path) -> None:
    """Other taus, or no job: one error that says which."""
    bundle = load_bundle(folder / BUNDLE_NAME)
    bundle.check_taus(BESIDE.traits)
    with pytest.raises(InvalidBundle, match="tau among 1, 5, 20, here it is to decide no tau"):
        bundle.check_taus(None)
    with pytest.raises(InvalidBundle, match="here it is to decide tau among 1, 5:"):
        bundle.check_taus(msgspec.structs.replace(BESIDE, taus=(1, 5)).traits)


def test_a_bundle_whose_parts_do_not_belong_together_is_refused(folder: Path, tmp_path: Path) -> None:
    """A tau network without a job, or a job without one."""
    bundle = load_bundle(folder / BUNDLE_NAME)
    plain = {name: array for name, array in bundle.arrays.items() if not name.startswith("tau_")}
    without = Bundle(manifest=msgspec.structs.replace(bundle.manifest, tau_network=None), arrays=plain)
    with pytest.raises(InvalidBundle, match="tau network"):
        load_bundle(save_at(without, tmp_path / "without"))


def save_at(bundle: Bundle, path: Path) -> Path:
    """Where it was written."""
    save_bundle(bundle, path)
    return path


def test_both_halves_are_one_run(folder: Path, tmp_path: Path) -> None:
    """Requests first, then taus; a run that is resumed when both are done learns nothing more, and one stopped between them the rest."""
    curve = [msgspec.json.decode(line, type=CurvePoint).timesteps for line in (folder / "curve.jsonl").read_text().splitlines()]
    assert curve[0] == 0
    assert curve == sorted(curve)
    assert min(curve[1:]) <= 512 < max(curve)
    whole = load_bundle(folder / BUNDLE_NAME)
    copied = shutil.copytree(folder, tmp_path / "copied")
    assert run(copied, resume=True).bundle.manifest.digest == whole.manifest.digest
    (copied / TAUS_NAME).unlink()
    again = run(copied, resume=True)
    assert again.curve[-1].timesteps == curve[-1]


def test_dqn_learns_the_requests_beside_a_job(tmp_path: Path) -> None:
    """Taus are PPO's all the same."""
    bundle = run(tmp_path, "dqn", timesteps=256).bundle
    assert bundle.manifest.algorithm == "dqn"
    assert bundle.tau_network() is not None


def test_environments_that_make_no_groups_are_refused(tmp_path: Path) -> None:
    """Before anything is learned."""
    with pytest.raises(InvalidConfig, match="groups of 8"):
        train(*beside(), out_dir=tmp_path, timesteps=8, num_envs=12)


def test_rewards_of_taus_are_above_the_others_of_the_group() -> None:
    """By hand: what one gains is measured by the mean of the seven others; a group's rewards sum to nothing."""
    rewards = np.concatenate([[8.0, *np.zeros(7)], np.full(8, 3.0)])
    assert above_others(rewards).tolist() == pytest.approx([8.0, *np.full(7, -8 / 7), *np.zeros(8)])
