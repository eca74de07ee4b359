"""Training writes what it learns while it learns, starts as greedy, and repeats itself with the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from agents.bundle import load_bundle
from agents.configs import Algorithm, DQNConfig, PPOConfig
from agents.learned import BundlePolicy
from agents.runfolder import BUNDLE_NAME, CHECKPOINT_NAME, CURVE_NAME
from agents.training import CurvePoint, TrainResult, train
from envs.catalogue import decisions_digest
from runtime.errors import InvalidBundle
from runtime.messages import Decision
from tests.agents.bundles import cost_models, record_observations
from tests.agents.scenarios import short_scenario
from tests.envs.profiles import make_profile

SMALL_PPO = PPOConfig(n_steps=8, batch_size=64, n_epochs=2, learning_rate=0.02)
SMALL_DQN = DQNConfig(buffer_size=2000, learning_starts=100, batch_size=32, gradient_steps=1, learning_rate=0.02)


def _train(out_dir: Path, algo: Algorithm = "ppo", seed: int = 1, **changes: object) -> TrainResult:
    scenario = short_scenario(20)
    arguments: dict[str, object] = {
        "timesteps": 512,
        "num_envs": 16,
        "config": SMALL_PPO if algo == "ppo" else SMALL_DQN,
        "decisions": cost_models()[1].decisions,
        "num_evaluations": 2,
        "num_held_out": 4,
    }
    return train(scenario, make_profile(scenario), algo=algo, seed=seed, out_dir=out_dir, **{**arguments, **changes})  # type: ignore[arg-type]


class Run(NamedTuple):
    """One finished training run."""

    algo: Algorithm
    folder: Path
    result: TrainResult
    seen: list[CurvePoint]


@pytest.fixture(scope="module", params=["ppo", "dqn"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run of each algorithm, shared by the tests that only look at it."""
    folder, seen = tmp_path_factory.mktemp("run") / request.param, list[CurvePoint]()
    return Run(request.param, folder, _train(folder, request.param, progress=seen.append), seen)


def test_a_run_leaves_a_deployable_bundle(run: Run) -> None:
    """The folder's bundle loads, decides, and says where it comes from."""
    bundle = load_bundle(run.folder / BUNDLE_NAME)
    assert bundle.manifest == run.result.bundle.manifest
    assert bundle.manifest.algorithm == run.algo
    assert bundle.manifest.provenance.timesteps == 512
    assert bundle.manifest.catalogue_digest == decisions_digest(cost_models()[1].decisions)
    policy = BundlePolicy(bundle)
    decided: set[Decision] = {policy.decide(observation) for observation in record_observations(50)}
    assert decided <= set(cost_models()[1].decisions)


def test_the_curve_is_on_disk_as_it_was_reported(run: Run) -> None:
    """Every evaluation is a line of the curve, reported while training and returned at the end."""
    lines = (run.folder / CURVE_NAME).read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=CurvePoint) for line in lines] == list(run.result.curve) == run.seen
    assert [point.timesteps for point in run.seen] == [0, 256, 512]


def test_training_starts_as_greedy(run: Run) -> None:
    """The first point of every curve is greedy's own cost, so what is kept is never worse than greedy there."""
    first = run.result.curve[0]
    assert first.learned_cost == pytest.approx(first.greedy_cost, rel=1e-9)
    assert run.result.gain_fraction >= 0


def test_scores_name_the_static_policies(run: Run) -> None:
    """A bundle carries its held-out cost beside greedy's and those of the static policies."""
    scores = run.result.bundle.manifest.scores
    assert scores.keys() == {"cloud-only", "device-only", "edge-only", "greedy", "learned"}
    assert np.isfinite(list(scores.values())).all()


def test_the_same_seed_trains_the_same_network(run: Run, tmp_path: Path) -> None:
    """The curve repeats to the last bit with the same seed, and is another one with another."""
    again, other = (_train(tmp_path / str(seed), run.algo, seed=seed).curve for seed in (1, 2))
    costs = [[point.learned_cost for point in curve] for curve in (run.result.curve, again, other)]
    assert costs[0] == costs[1]
    assert costs[0] != costs[2]


def test_the_best_network_is_kept(tmp_path: Path) -> None:
    """The bundle's score is the least of the curve, marked there."""
    result = _train(tmp_path, num_evaluations=4)
    assert result.bundle.manifest.scores["learned"] == min(point.learned_cost for point in result.curve)
    best = [point for point in result.curve if point.is_best][-1]
    assert best.learned_cost == result.bundle.manifest.scores["learned"]


class Crash(Exception):
    """Something that ends a run from outside."""


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_crashed_run_can_be_resumed(tmp_path: Path, algo: Algorithm) -> None:
    """The second attempt goes on from the last checkpoint: no evaluation is missing, none is there twice."""

    def crash_at_256(point: CurvePoint) -> None:
        if point.timesteps == 256:
            raise Crash

    with pytest.raises(Crash):
        _train(tmp_path, algo, num_evaluations=4, progress=crash_at_256)
    with (tmp_path / CURVE_NAME).open("ab") as file:
        file.write(b'{"timesteps": 3')  # and the disk was full
    assert (tmp_path / CHECKPOINT_NAME).exists()
    result = _train(tmp_path, algo, num_evaluations=4, resume=True)
    assert [point.timesteps for point in result.curve] == [0, 128, 256, 384, 512]
    assert len((tmp_path / CURVE_NAME).read_bytes().splitlines()) == 5
    assert load_bundle(tmp_path / BUNDLE_NAME).manifest == result.bundle.manifest


def test_a_finished_run_is_not_trained_again(run: Run) -> None:
    """Resuming what is done gives the same result at once."""
    again = _train(run.folder, run.algo, resume=True)
    assert again.bundle.manifest == run.result.bundle.manifest
    assert again.curve == run.result.curve


def test_resuming_for_another_catalogue_is_refused(run: Run) -> None:
    """A folder whose network decides among other candidates cannot be gone on with."""
    with pytest.raises(InvalidBundle, match="catalogue"):
        _train(run.folder, run.algo, resume=True, decisions=cost_models()[1].decisions[::-1])
