"""Serving and training at once, SIMULATED: is a learned tau worth more than any fixed one, and than adaptive tau?

One device is asked for inference over an uplink that varies, and is a client of a federated job whose updates cross the same
uplink.  The job's loss is the convergence model's, fitted to real rounds that are recorded here; its seconds and bytes are stated
below.  All policies meet the same held-out episodes.  Requests are decided by greedy; by the learned policy, which decides both,
and is also shown with its tau alone; and by agents that learned the requests alone, as many steps long, beside the fixed tau that is
best with greedy: what they lose to the first is what tau is worth as a decision.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from agents.bundle import Bundle
from agents.configs import PPOConfig
from agents.heldout import choose_greedily
from agents.keeper import network_chooser
from agents.training import train
from benchmarks.federated_runs import LEARNING_RATE, num_bytes, record_run
from envs.catalogue import catalogued
from runtime.training.convergence_fit import error, fit
from envs.features import Encoder, Features
from envs.job_state import JOB_ROW
from envs.job_traits import TAUS
from envs.make import shipped_profile
from envs.reward import Objective
from envs.scenario import Scenario, load_scenario
from envs.sim import VectorSim
from envs.training_job import TrainingJob
from envs.workload import WorkloadConfig
from runtime.messages import Decision
from runtime.profile import Profile
from runtime.training.tau_control import AdaptiveTau, RoundReport, TauState

NUM_EPISODES, FIRST_SEED, TRAINING_SEEDS, TIMESTEPS = 96, 950_000, (0, 1, 2), 150_000
HIDDEN_SIZE, NUM_STEPS, FITTED, HELD_OUT = 512, 120, (1, 2, 5, 20), 10
WORKLOAD = WorkloadConfig(num_requests=400, rate_per_s=10.0, burst_rate_per_s=30.0, calm_s=3.0, burst_s=1.0, deadline_s=0.25)
LOSS_DROP = 60.0
"""A unit of loss is worth so much: what the requests of some seconds cost."""
STEP_S, AGGREGATION_S = 0.02, 0.02
PHIS = (0.025, 5e-5)
"""Of adaptive tau: the paper's constants for a convex loss and for a network."""
PPO = PPOConfig(gamma=0.99, reward_scale=0.2)

Choice = tuple[np.ndarray, np.ndarray | None]
"""Actions [N], and taus [N] for where one is due; None leaves them alone."""
Policy = Callable[[VectorSim, Features], Choice]


class Played(NamedTuple):
    """Arrays [episodes]."""

    worth: np.ndarray
    """Worth of the loss's fall less the requests' costs."""
    cost: np.ndarray
    """Per request."""
    loss: np.ndarray
    rounds: np.ndarray


def make_problem() -> tuple[Scenario, TrainingJob]:
    """The scenario, and the job as it was recorded; prints how far its model is off."""
    runs = {tau: record_run(tau, max(NUM_STEPS // tau, 8), hidden_size=HIDDEN_SIZE) for tau in (*FITTED, HELD_OUT)}
    model = fit([runs[tau] for tau in FITTED])
    for tau, run in runs.items():
        off, kind = error(model, [run]).mean_relative, "held out" if tau == HELD_OUT else "fitted"
        print(f"convergence model, tau {tau} ({kind}): {off:.0%} off on average over {len(run.rounds)} rounds")
    job = TrainingJob(
        step_s=STEP_S, up_bytes=num_bytes(HIDDEN_SIZE), down_bytes=num_bytes(HIDDEN_SIZE), aggregation_s=AGGREGATION_S,
        learning_rate=LEARNING_RATE, tau=10, taus=TAUS, convergence=model,
    )  # fmt: skip
    return msgspec.structs.replace(load_scenario("cellular"), workload=WORKLOAD, objective=Objective(loss_drop=LOSS_DROP)), job


def play(sim: VectorSim, policy: Policy) -> Played:
    """The held-out episodes."""
    job, encoder = sim.job, Encoder(sim.cost_model)
    assert job is not None
    raw = sim.reset(np.arange(FIRST_SEED, FIRST_SEED + sim.num_envs))
    worth, drop, initial, rounds = np.zeros(sim.num_envs), np.zeros(sim.num_envs), job.loss.copy(), np.zeros(sim.num_envs)
    for _ in range(sim.num_requests):
        actions, taus = policy(sim, encoder.encode(raw))
        if taus is not None:
            job.decide(taus, due(sim), sim.at_s)
        rounds = job.num_rounds.copy()
        step = sim.step(actions)
        worth, drop, raw = worth + step.reward, drop + step.loss_drop, step.raw
    return Played(worth, (LOSS_DROP * drop - worth) / sim.num_requests, initial - drop, rounds)


def due(sim: VectorSim) -> np.ndarray:
    """bool [N]"""
    assert sim.job is not None
    is_due: np.ndarray = sim.job.see(sim.at_s)[JOB_ROW["tau_due"]] > 0
    return is_due


def fixed(tau: int, choose: Callable[[Features], np.ndarray] = choose_greedily) -> Policy:
    """Always that tau."""
    return lambda sim, features: (choose(features), np.full(sim.num_envs, tau))


class Adaptive:
    """Adaptive tau of Wang et al. for each episode, told the surface that the convergence model has where the run is."""

    def __init__(self, phi: float, budget_s: float) -> None:
        self._controller, self._states = AdaptiveTau(learning_rate=LEARNING_RATE, budget=budget_s, phi=phi), dict[int, TauState]()

    def __call__(self, sim: VectorSim, features: Features) -> Choice:
        job = sim.job
        assert job is not None
        seen, taus = job.see(sim.at_s), np.ones(sim.num_envs, dtype=np.int64)
        for env in np.flatnonzero(due(sim)).tolist():
            state = self._states.get(env, self._controller.start())
            if seen[JOB_ROW["num_rounds"], env] > 0:
                tau, lasted_s = int(job.tau_now[env]), float(seen[JOB_ROW["last_round_s"], env])
                surface = job.job.convergence.surface(job.progress.column(env), tau, job.job.learning_rate)
                aggregation_s = max(lasted_s - tau * job.job.step_s, 1e-3)
                report = RoundReport(step_cost=job.job.step_s, aggregation_cost=aggregation_s, spent=lasted_s, surface=surface)
                state = self._controller.next(state, report)
            self._states[env], taus[env] = state, state.tau
        return choose_greedily(features), taus


def learned(bundle: Bundle, *, requests: bool = True) -> Policy:
    """What it decides; without `requests` greedy decides those."""
    choose = network_chooser(bundle.network(), bundle.tau_network())

    def decide(sim: VectorSim, features: Features) -> Choice:
        both = choose(features)
        return both[:, 0] if requests else choose_greedily(features), np.array(TAUS)[both[:, 1]]

    return decide


def requests_of(bundle: Bundle) -> Policy:
    """The decisions of a bundle that decides no tau."""
    choose = network_chooser(bundle.network())
    return lambda sim, features: (choose(features), None)


def tell(name: str, played: Played, best: Played | None = None) -> None:
    """A line; with `best` also by how much its episodes were better, with a 95 % interval over pairs."""
    text = f"{name:34} {played.worth.mean():9.2f} {played.cost.mean():9.4f} {played.loss.mean():7.3f} {played.rounds.mean():7.1f}"
    if best is not None:
        gain = best.worth - played.worth
        text += f"   {gain.mean():+7.2f} +- {1.96 * gain.std(ddof=1) / np.sqrt(len(gain)):.2f}"
    print(text, flush=True)


def main() -> None:
    scenario, job = make_problem()
    profile = shipped_profile(scenario.model)
    decisions = catalogued(scenario, profile).decisions
    sim = VectorSim(scenario, profile, NUM_EPISODES, decisions=decisions, expected_error=True, pool_size=NUM_EPISODES, job=job)
    budget_s = WORKLOAD.num_requests / 15.0
    print(f"{'policy':34} {'worth':>9} {'cost/req':>9} {'loss':>7} {'rounds':>7}   learned minus it")
    results = {f"greedy, tau {tau}": play(sim, fixed(tau)) for tau in TAUS}
    results |= {f"greedy, adaptive tau, phi {phi:g}": play(sim, Adaptive(phi, budget_s)) for phi in PHIS}
    for name, played in results.items():
        tell(name, played)
    best_tau = max(TAUS, key=lambda tau: results[f"greedy, tau {tau}"].worth.mean())
    settled = msgspec.structs.replace(job, tau=best_tau, taus=())
    settled_sim = VectorSim(scenario, profile, NUM_EPISODES, decisions=decisions, expected_error=True, pool_size=NUM_EPISODES, job=settled)
    for seed in TRAINING_SEEDS:
        began_s = time.perf_counter()
        both, requests = (trained(scenario, profile, each, seed, decisions) for each in (job, settled))
        best = play(sim, learned(both))
        print(f"-- training seed {seed}, twice {TIMESTEPS} steps in {time.perf_counter() - began_s:.0f} s")
        tell("learned", best)
        tell("greedy, learned tau", play(sim, learned(both, requests=False)), best)
        tell(f"learned requests, tau {best_tau}", play(settled_sim, requests_of(requests)), best)
        for name, played in results.items():
            tell(name, played, best)


def trained(scenario: Scenario, profile: Profile, job: TrainingJob, seed: int, decisions: tuple[Decision, ...]) -> Bundle:
    """What PPO makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"seed": seed, "timesteps": TIMESTEPS, "out_dir": Path(folder), "config": PPO, "decisions": decisions, "job": job}
        return train(scenario, profile, **arguments).bundle  # type: ignore[arg-type]
