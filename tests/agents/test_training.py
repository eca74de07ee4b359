"""Training writes what it learns while it learns, starts as greedy, and repeats itself with the same seed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from agents.bundle import load_bundle
from agents.configs import Algorithm, DQNConfig, PPOConfig
from agents.learned import BundlePolicy
from agents.training import BUNDLE_NAME, CURVE_NAME, CurvePoint, TrainResult, train
from envs.catalogue import decisions_digest
from envs.scenario import Scenario
from runtime.messages import Decision
from tests.agents.bundles import cost_models, record_observations
from tests.envs.profiles import make_profile, make_scenario

SMALL_PPO = PPOConfig(n_steps=8, batch_size=64, n_epochs=2, learning_rate=0.02)
SMALL_DQN = DQNConfig(buffer_size=2000, learning_starts=100, batch_size=32, gradient_steps=1, learning_rate=0.02)


def _short() -> Scenario:
    scenario = make_scenario()
    return msgspec.structs.replace(scenario, workload=msgspec.structs.replace(scenario.workload, num_requests=20))


def _train(out_dir: Path, algo: Algorithm = "ppo", seed: int = 1, **changes: object) -> TrainResult:
    scenario = _short()
    arguments: dict[str, object] = {
        "timesteps": 512,
        "num_envs": 16,
        "config": SMALL_PPO if algo == "ppo" else SMALL_DQN,
        "decisions": cost_models()[1].decisions,
        "num_evaluations": 2,
        "num_held_out": 4,
    }
    return train(scenario, make_profile(scenario), algo=algo, seed=seed, out_dir=out_dir, **{**arguments, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_run_leaves_a_deployable_bundle_and_its_curve(tmp_path: Path, algo: Algorithm) -> None:
    """The folder's bundle loads, decides, and says where it comes from; the curve on disk is the one returned."""
    seen: list[CurvePoint] = []
    result = _train(tmp_path / "run", algo, progress=seen.append)
    bundle = load_bundle(tmp_path / "run" / BUNDLE_NAME)
    assert bundle.manifest == result.bundle.manifest
    assert bundle.manifest.algorithm == algo
    assert bundle.manifest.provenance.timesteps == 512
    assert bundle.manifest.catalogue_digest == decisions_digest(cost_models()[1].decisions)
    lines = (tmp_path / "run" / CURVE_NAME).read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=CurvePoint) for line in lines] == list(result.curve) == seen
    assert result.curve[-1].timesteps == 512
    policy = BundlePolicy(bundle)
    decided: set[Decision] = {policy.decide(observation) for observation in record_observations(50)}
    assert decided <= set(cost_models()[1].decisions)


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_training_starts_as_greedy(tmp_path: Path, algo: Algorithm) -> None:
    """The first point of every curve is greedy's own cost, so a learned policy is never worse than greedy there."""
    result = _train(tmp_path, algo)
    assert result.curve[0].timesteps == 0
    assert result.curve[0].learned_cost == pytest.approx(result.curve[0].greedy_cost, rel=1e-9)
    assert result.gain_fraction >= 0


def test_the_best_network_is_kept(tmp_path: Path) -> None:
    """The bundle's score is the least of the curve, marked there."""
    result = _train(tmp_path, num_evaluations=4)
    assert result.bundle.manifest.scores["learned"] == min(point.learned_cost for point in result.curve)
    best = [point for point in result.curve if point.is_best][-1]
    assert best.learned_cost == result.bundle.manifest.scores["learned"]


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_the_same_seed_trains_the_same_network(tmp_path: Path, algo: Algorithm) -> None:
    """Weights are equal to the last bit for one seed, and differ between seeds."""
    runs = [_train(tmp_path / str(index), algo, seed=seed).curve for index, seed in enumerate((4, 4, 5))]
    costs = [[point.learned_cost for point in curve] for curve in runs]
    assert costs[0] == costs[1]
    assert costs[0] != costs[2]


def test_scores_are_finite_and_name_the_static_policies(tmp_path: Path) -> None:
    """A bundle carries its held-out cost beside greedy's and those of the static policies."""
    scores = _train(tmp_path).bundle.manifest.scores
    assert scores.keys() == {"cloud-only", "device-only", "edge-only", "greedy", "learned"}
    assert np.isfinite(list(scores.values())).all()
