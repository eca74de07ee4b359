"""Train a policy in the simulator and make a bundle of it.

A run's folder holds everything, written while it goes on, so that a crash loses nothing but the rest:

    run.json          what was asked for
    curve.jsonl       one line per evaluation on held-out episodes: learned cost against greedy's
    checkpoint.zip    stable-baselines3's own format, for resuming; loading one can run code, so nothing that deploys does
    bundle/           the best network so far, deployable (agents/bundle.py)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.algorithms import make_dqn, make_ppo, scorer_of
from agents.bundle import Bundle, BundleManifest, Provenance, save_bundle
from agents.configs import Algorithm, DQNConfig, PPOConfig
from agents.heldout import Chooser, HeldOut, choose_always, choose_greedily
from agents.network import ScoringNetwork
from agents.simworld import SimWorld
from agents.vecenv import WorldVecEnv
from envs.catalogue import build_catalogue, decisions_digest
from envs.costs import build_cost_model
from envs.features import MYOPIC_INDEX, SCHEMA
from envs.scenario import Scenario
from envs.sim import VectorSim
from runtime.files import write_atomically
from runtime.messages import Decision
from runtime.profile import Profile

CURVE_NAME, CHECKPOINT_NAME, RUN_NAME, BUNDLE_NAME = "curve.jsonl", "checkpoint.zip", "run.json", "bundle"
MYOPIC_SCALE = 1.0
"""The feature at MYOPIC_INDEX is in units of cost."""
_PACKAGES = ("drlctl", "numpy", "stable_baselines3", "torch")


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation during training."""

    timesteps: int
    seconds: float
    """Of training so far, evaluations left out."""
    learned_cost: float
    """Mean cost per request on the held-out episodes."""
    greedy_cost: float
    """Of greedy on the same episodes."""
    is_best: bool


class TrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a training run gave."""

    bundle: Bundle
    bundle_path: Path
    curve: tuple[CurvePoint, ...]
    seconds: float
    """Of training, evaluations left out."""

    @property
    def gain_fraction(self) -> float:
        """How much less the best network costs than greedy on the held-out episodes; negative if more."""
        scores = self.bundle.manifest.scores
        return 1.0 - scores["learned"] / scores["greedy"]


Progress = Callable[[CurvePoint], None]


def train(
    scenario: Scenario,
    profile: Profile,
    *,
    algo: Algorithm = "ppo",
    seed: int = 0,
    timesteps: int | None = None,
    num_envs: int | None = None,
    out_dir: Path,
    progress: Progress | None = None,
    config: PPOConfig | DQNConfig | None = None,
    decisions: tuple[Decision, ...] | None = None,
    num_evaluations: int = 10,
    num_held_out: int = 48,
) -> TrainResult:
    """Learn to decide for one scenario, from greedy's start.

    `timesteps` and `num_envs` default to the scenario's, `decisions` to the catalogue.  `progress` is called after
    each of `num_evaluations` evaluations on `num_held_out` episodes; the network that did best in one is kept.  Writes the run's
    folder `out_dir`.  Raises InvalidProfile when the profile does not fit the scenario, OSError when the disk does not.
    """
    torch.set_num_threads(1)
    timesteps = timesteps or scenario.training.timesteps
    settings = config or (PPOConfig() if algo == "ppo" else DQNConfig())
    chosen = decisions or build_catalogue(build_cost_model(profile, scenario)).decisions
    held_out = HeldOut(scenario, profile, chosen, num_held_out)
    reference = reference_costs(held_out)
    sim = VectorSim(scenario, profile, num_envs or scenario.training.num_envs, decisions=chosen, expected_error=True)
    world = SimWorld(sim, seed, usual_cost=reference["greedy"], reward_scale=settings.reward_scale, shaping=settings.shaping)
    agent = _make_agent(WorldVecEnv(world), settings, seed)
    manifest = BundleManifest(
        algorithm=algo,
        network=scorer_of(agent).shape,
        feature_schema=SCHEMA,
        catalogue_digest=decisions_digest(chosen),
        cost_model=sim.cost_model,
        provenance=_provenance(scenario, profile, seed, timesteps),
        scores=reference,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    request = {"scenario": scenario, "algo": algo, "seed": seed, "timesteps": timesteps, "num_envs": sim.num_envs, "config": settings}
    write_atomically(out_dir / RUN_NAME, msgspec.json.format(msgspec.json.encode(request), indent=2) + b"\n")
    keeper = _Keeper(held_out, manifest, out_dir, timesteps, num_evaluations, progress)
    agent.learn(timesteps, callback=keeper)
    return keeper.result()


def _make_agent(env: WorldVecEnv, config: PPOConfig | DQNConfig, seed: int) -> BaseAlgorithm:
    if isinstance(config, PPOConfig):
        return make_ppo(env, config, MYOPIC_INDEX, MYOPIC_SCALE, seed)
    return make_dqn(env, config, MYOPIC_INDEX, MYOPIC_SCALE, seed)


def _provenance(scenario: Scenario, profile: Profile, seed: int, timesteps: int) -> Provenance:
    return Provenance(
        scenario=scenario.name,
        seed=seed,
        timesteps=timesteps,
        profile_digest=hashlib.sha256(msgspec.json.encode(profile, order="deterministic")).hexdigest(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={package: version(package) for package in _PACKAGES},
    )


def network_chooser(network: ScoringNetwork) -> Chooser:
    """Decide by the highest score."""
    return lambda features: network.logits_batch(features.state, features.candidates, features.mask).argmax(axis=1)


class _Keeper(BaseCallback):
    """Evaluates now and then, writes the curve, and keeps the best network as a bundle."""

    def __init__(
        self,
        held_out: HeldOut,
        manifest: BundleManifest,
        out_dir: Path,
        timesteps: int,
        num_evaluations: int,
        progress: Progress | None,
    ) -> None:
        super().__init__()
        self._held_out, self._manifest, self._out_dir, self._progress = held_out, manifest, out_dir, progress
        self._due = np.linspace(0, timesteps, num_evaluations + 1)[1:].tolist()
        self._curve: list[CurvePoint] = []
        self._best: Bundle | None = None
        self._seconds, self._started_at_s = 0.0, 0.0
        (out_dir / CURVE_NAME).unlink(missing_ok=True)

    def result(self) -> TrainResult:
        """After learning."""
        assert self._best is not None, "learning ends with an evaluation"
        path = self._out_dir / BUNDLE_NAME
        return TrainResult(bundle=self._best, bundle_path=path, curve=tuple(self._curve), seconds=self._seconds)

    def _on_training_start(self) -> None:
        self._evaluate()
        self._started_at_s = time.perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        # Between the last update and the next rollout: the network is what all steps so far have made of it.
        if self._due and self.num_timesteps >= self._due[0]:
            self._pause()

    def _on_training_end(self) -> None:
        self._pause()

    def _pause(self) -> None:
        self._seconds += time.perf_counter() - self._started_at_s
        while self._due and self.num_timesteps >= self._due[0]:
            self._due.pop(0)
        self._evaluate()
        self.model.save(self._out_dir / CHECKPOINT_NAME)
        self._started_at_s = time.perf_counter()

    def _evaluate(self) -> None:
        scorer = scorer_of(self.model)
        arrays = scorer.arrays()
        cost = float(self._held_out.costs(network_chooser(ScoringNetwork(scorer.shape, arrays))).mean())
        is_best = self._best is None or cost < self._best.manifest.scores["learned"]
        if is_best:
            manifest = msgspec.structs.replace(self._manifest, scores={**self._manifest.scores, "learned": cost})
            self._best = save_bundle(Bundle(manifest=manifest, arrays=arrays), self._out_dir / BUNDLE_NAME)
        point = CurvePoint(
            timesteps=self.num_timesteps,
            seconds=round(self._seconds, 3),
            learned_cost=cost,
            greedy_cost=self._manifest.scores["greedy"],
            is_best=is_best,
        )
        self._curve.append(point)
        with (self._out_dir / CURVE_NAME).open("ab") as file:
            file.write(msgspec.json.encode(point) + b"\n")
        if self._progress is not None:
            self._progress(point)


def reference_costs(held_out: HeldOut) -> dict[str, float]:
    """Mean cost per request of greedy, and of the static policies that the catalogue has, on the held-out episodes."""
    choosers: dict[str, Chooser] = {"greedy": choose_greedily}
    model = held_out.cost_model
    last = len(model.exit_ends) - 1
    end = model.exit_ends[last]
    places = {(end, end): "device-only", (0, end): "edge-only", (0, 0): "cloud-only"}
    for action, decision in enumerate(model.decisions):
        if decision.variant == "fp32" and decision.exit == last and decision.cuts in places:
            choosers[places[decision.cuts]] = choose_always(action)
    return {name: float(held_out.costs(choose).mean()) for name, choose in sorted(choosers.items())}
