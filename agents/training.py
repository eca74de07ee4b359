"""Train a policy in the simulator, from greedy's start, and make a bundle of it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms import ExploringDQN, make_dqn, make_ppo, scorer_of
from agents.bundle import TAU_PREFIX, Bundle, BundleManifest, Provenance
from agents.configs import TAU_CONFIG, Algorithm, DQNConfig, PPOConfig
from agents.heldout import HeldOut, best_fixed_tau, choose_greedily, reference_costs
from agents.keeper import Keeper, Lesson, Progress, network_chooser
from agents.network import Float32, NetworkShape
from agents.runfolder import CHECKPOINT_NAME, TAUS_NAME, CurvePoint, RunFolder, RunRequest
from agents.scoring import CandidateScorer
from agents.simworld import SimWorld
from agents.tauworld import TauWorld, check_groups
from agents.vecenv import WorldVecEnv
from envs.catalogue import catalogued, decisions_digest
from envs.costs import CostModel
from envs.features import MYOPIC_INDEX, schema_of, state_size
from envs.job_features import PRIOR_INDEX, TAU_FIELDS
from envs.scenario import Scenario
from envs.simulators import batch_sim
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
) -> TrainResult:
    """Learn to decide for one scenario.  Writes the run's folder `out_dir` (agents/runfolder.py) as it goes.

    `timesteps` and `num_envs` default to the scenario's, `decisions` to the catalogue.  `progress` is called after
    each of `num_evaluations` evaluations on `num_held_out` episodes, and once before learning; the network that did best
    in one is kept.  `resume` goes on from the folder's checkpoint, if it has one: give it the arguments of the first
    time, and only a folder that you trust.  The same arguments give the same network.

    Beside a training job the first half of the steps learns the requests, at the fixed tau that is best with greedy, and the
    second half the taus, by PPO (agents/tauworld.py), the requests being decided by what the first half learned.
    Raises InvalidConfig beside a job for environments that make no groups of GROUP_SIZE, InvalidProfile when the profile does not
    fit the scenario, InvalidBundle when a folder to resume is of another catalogue, OSError when the disk fails.
    """
    torch.set_num_threads(1)
    timesteps = timesteps or scenario.training.timesteps
    settings = config or (PPOConfig() if algo == "ppo" else DQNConfig())
    chosen = decisions or catalogued(scenario, profile).decisions
    num_envs = num_envs or scenario.training.num_envs
    if scenario.job is not None:
        check_groups(num_envs)
    held_out = best_fixed_tau(HeldOut(scenario, profile, chosen, num_held_out))
    scenario = held_out.scenario
    scores = reference_costs(held_out)
    sim = batch_sim(scenario, profile, num_envs, decisions=chosen, expected_error=True)
    usual_cost = float(held_out.costs(choose_greedily, beside=False).mean()) if scenario.job is not None else scores["greedy"]
    world = SimWorld(sim, seed, usual_cost=usual_cost, reward_scale=settings.reward_scale, shaping=settings.shaping)
    agent = make_agent(WorldVecEnv(world), settings, seed)
    job = sim.cost_model.job
    untrained = untrained_taus(sim.cost_model, seed) if job is not None else None
    manifest = _manifest(agent, sim.cost_model, _provenance(scenario, profile, seed, timesteps), scores, untrained)
    folder = RunFolder(out_dir)
    requests = Lesson(prefix="", others=tau_arrays(untrained), num_steps=timesteps if job is None else timesteps // 2)
    keeper = Keeper(held_out, manifest, folder, requests, num_evaluations if job is None else max(1, num_evaluations // 2), progress)
    if not (resume and folder.can_resume(CHECKPOINT_NAME)):
        folder.begin(RunRequest(scenario=scenario, algo=algo, seed=seed, timesteps=timesteps, num_envs=sim.num_envs, config=settings))
    if not (resume and folder.can_resume(TAUS_NAME)):
        learn(agent, keeper, folder if resume else None)
    if job is not None:
        best = keeper.best or keeper.load()
        decided = {name: array for name, array in best.arrays.items() if not name.startswith(TAU_PREFIX)}
        keeper.begin(Lesson(TAU_PREFIX, decided, timesteps - requests.num_steps, TAUS_NAME, requests.num_steps))
        taus = TauWorld(sim, network_chooser(best.network()), seed, reward_scale=TAU_CONFIG.reward_scale)
        learn(make_ppo(WorldVecEnv(taus), TAU_CONFIG, PRIOR_INDEX, 1.0, seed), keeper, folder if resume else None)
    assert keeper.best is not None, "an evaluation precedes learning"
    return TrainResult(bundle=keeper.best, bundle_path=folder.bundle_path, curve=tuple(keeper.curve), seconds=keeper.seconds)


def learn(agent: PPO | ExploringDQN, keeper: Keeper, resumed: RunFolder | None) -> None:
    """The keeper's lesson; from its checkpoint in the folder `resumed`, if it has one."""
    lesson = keeper.lesson
    if resumed is not None and resumed.can_resume(lesson.checkpoint):
        agent = type(agent).load(resumed.path / lesson.checkpoint, env=agent.get_env(), device="cpu")
        keeper.resume(agent.num_timesteps)
    if agent.num_timesteps < lesson.num_steps:
        agent.learn(lesson.num_steps - agent.num_timesteps, callback=keeper, reset_num_timesteps=False)


def make_agent(env: WorldVecEnv, config: PPOConfig | DQNConfig, seed: int) -> PPO | ExploringDQN:
    """An untrained agent of the algorithm that the config is for."""
    if isinstance(config, PPOConfig):
        return make_ppo(env, config, MYOPIC_INDEX, MYOPIC_SCALE, seed)
    return make_dqn(env, config, MYOPIC_INDEX, MYOPIC_SCALE, seed)


def untrained_taus(cost_model: CostModel, seed: int) -> CandidateScorer:
    """A scorer of taus that keeps to the one that the job begins with."""
    network = TAU_CONFIG.network
    shape = NetworkShape(
        state_size=state_size(cost_model),
        candidate_size=len(TAU_FIELDS),
        hidden_size=network.hidden_size,
        activation=network.activation,
        myopic_index=PRIOR_INDEX,
        myopic_scale=1.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CandidateScorer(shape, TAU_CONFIG.kappa)


def tau_arrays(scorer: CandidateScorer | None) -> dict[str, Float32]:
    """As a bundle names them."""
    return {TAU_PREFIX + name: array for name, array in scorer.arrays().items()} if scorer is not None else {}


def _manifest(
    agent: BaseAlgorithm, cost_model: CostModel, provenance: Provenance, scores: dict[str, float], taus: CandidateScorer | None
) -> BundleManifest:
    return BundleManifest(
        algorithm="ppo" if isinstance(agent, PPO) else "dqn",
        network=scorer_of(agent).shape,
        tau_network=taus.shape if taus is not None else None,
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
