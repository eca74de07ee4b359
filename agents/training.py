"""Train a policy in the simulator, from greedy's start, and make a bundle of it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms import ExploringDQN, make_dqn, make_ppo, scorer_of, tau_scorer_of
from agents.bundle import Bundle, BundleManifest, Provenance
from agents.configs import Algorithm, DQNConfig, PPOConfig
from agents.heldout import HeldOut, reference_costs
from agents.keeper import Keeper, Progress
from agents.runfolder import CurvePoint, RunFolder, RunRequest
from agents.simworld import SimWorld
from agents.vecenv import WorldVecEnv
from envs.catalogue import catalogued, decisions_digest
from envs.costs import CostModel
from envs.features import MYOPIC_INDEX, schema_of
from envs.scenario import Scenario
from envs.simulators import batch_sim
from envs.training_job import TrainingJob
from runtime.errors import InvalidConfig
from runtime.messages import Decision
from runtime.profile import Profile

__all__ = ["CurvePoint", "Progress", "TrainResult", "train"]

MYOPIC_SCALE = 1.0
"""The feature at MYOPIC_INDEX is in units of cost."""
_PACKAGES = ("drlctl", "numpy", "stable_baselines3", "torch")


class TrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a training run gave."""

    bundle: Bundle
    bundle_path: Path
    curve: tuple[CurvePoint, ...]
    seconds: float
    """Of training, evaluations left out."""

    @property
    def gain_fraction(self) -> float:
        """How much less the best network costs than greedy on the held-out episodes; never negative, greedy being the start."""
        scores = self.bundle.manifest.scores
        learned, greedy = scores["learned"], scores["greedy"]
        return (greedy - learned) / abs(greedy) if greedy else 0.0  # beside a training job a cost may be a gain


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
    resume: bool = False,
    job: TrainingJob | None = None,
) -> TrainResult:
    """Learn to decide for one scenario.  Writes the run's folder `out_dir` (agents/runfolder.py) as it goes.

    `timesteps` and `num_envs` default to the scenario's, `decisions` to the catalogue.  `progress` is called after
    each of `num_evaluations` evaluations on `num_held_out` episodes, and once before learning; the network that did best
    in one is kept.  `resume` goes on from the folder's checkpoint, if it has one: give it the arguments of the first
    time, and only a folder that you trust.  The same arguments give the same network.  `job`: what trains beside the
    requests; where it has taus to choose among, the agent decides them too.
    Raises InvalidConfig for a DQN that would have to decide taus, InvalidProfile when the profile does not fit the scenario,
    InvalidBundle when a folder to resume is of another catalogue, OSError when the disk fails.
    """
    torch.set_num_threads(1)
    timesteps = timesteps or scenario.training.timesteps
    settings = config or (PPOConfig() if algo == "ppo" else DQNConfig())
    chosen = decisions or catalogued(scenario, profile).decisions
    if job is not None and job.taus and algo == "dqn":
        raise InvalidConfig("dqn has one value per action, and decisions times taus are too many; train with ppo, or give the job no taus")
    held_out = HeldOut(scenario, profile, chosen, num_held_out, job=job)
    scores = reference_costs(held_out)
    sim = batch_sim(scenario, profile, num_envs or scenario.training.num_envs, decisions=chosen, expected_error=True, job=job)
    world = SimWorld(sim, seed, usual_cost=scores["greedy"], reward_scale=settings.reward_scale, shaping=settings.shaping)
    agent = make_agent(WorldVecEnv(world), settings, seed)
    manifest = _manifest(agent, sim.cost_model, _provenance(scenario, profile, seed, timesteps), scores)
    folder = RunFolder(out_dir)
    due = np.linspace(0, timesteps, num_evaluations + 1)[1:].astype(int).tolist()
    keeper = Keeper(held_out, manifest, folder, due, progress)
    if resume and folder.can_resume:
        agent = type(agent).load(folder.checkpoint_path, env=agent.get_env(), device="cpu")
        keeper.resume(agent.num_timesteps)
    else:
        folder.begin(RunRequest(scenario=scenario, algo=algo, seed=seed, timesteps=timesteps, num_envs=sim.num_envs, config=settings))
    if agent.num_timesteps < timesteps:
        agent.learn(timesteps - agent.num_timesteps, callback=keeper, reset_num_timesteps=False)
    assert keeper.best is not None, "an evaluation precedes learning"
    return TrainResult(bundle=keeper.best, bundle_path=folder.bundle_path, curve=tuple(keeper.curve), seconds=keeper.seconds)


def make_agent(env: WorldVecEnv, config: PPOConfig | DQNConfig, seed: int) -> PPO | ExploringDQN:
    """An untrained agent of the algorithm that the config is for."""
    if isinstance(config, PPOConfig):
        return make_ppo(env, config, MYOPIC_INDEX, MYOPIC_SCALE, seed)
    return make_dqn(env, config, MYOPIC_INDEX, MYOPIC_SCALE, seed)


def _manifest(agent: BaseAlgorithm, cost_model: CostModel, provenance: Provenance, scores: dict[str, float]) -> BundleManifest:
    tau_scorer = tau_scorer_of(agent)
    return BundleManifest(
        algorithm="ppo" if isinstance(agent, PPO) else "dqn",
        network=scorer_of(agent).shape,
        tau_network=tau_scorer.shape if tau_scorer is not None else None,
        feature_schema=schema_of(cost_model),
        catalogue_digest=decisions_digest(cost_model.decisions),
        cost_model=cost_model,
        provenance=provenance,
        scores=scores,
    )


def _provenance(scenario: Scenario, profile: Profile, seed: int, timesteps: int) -> Provenance:
    return Provenance(
        scenario=scenario.name,
        seed=seed,
        timesteps=timesteps,
        profile_digest=hashlib.sha256(msgspec.json.encode(profile, order="deterministic")).hexdigest(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={package: version(package) for package in _PACKAGES},
    )
