"""Serving and training at once, SIMULATED: is a learned tau worth more than any fixed one, and than adaptive tau?

The scenario `train-and-serve`, on the profile that `drlctl profile train-and-serve` writes: its rounds were recorded live, its loss
is the convergence model's.  All policies meet the same held-out episodes.  Requests are decided by greedy; by the learned policy,
which decides both; and by the learned policy beside each fixed tau: what the best of these loses to the first is what tau is worth
as a decision.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.bundle import Bundle
from agents.heldout import Chooser, choose_greedily
from agents.keeper import network_chooser
from agents.simworld import split_actions
from agents.training import train
from drlctl.systems import read_profile
from envs.catalogue import catalogued
from envs.costs import CostModel
from envs.features import Encoder
from envs.job_config import adaptive_tau, decided_tau, fixed_tau
from envs.scenario import load_scenario
from envs.sim import VectorSim
from runtime.messages import TauSpec

NUM_EPISODES, FIRST_SEED, TRAINING_SEEDS = 96, 950_000, (0, 1, 2)


class Played(NamedTuple):
    """Arrays [episodes]."""

    objective: np.ndarray
    """Worth of the loss's fall less the requests' costs."""
    cost: np.ndarray
    """Per request."""
    drop: np.ndarray
    """Of the loss."""
    rounds: np.ndarray


def play(sim: VectorSim, choose: Chooser, tau: TauSpec, seen_by: CostModel | None = None) -> Played:
    """The held-out episodes with the job's tau by that rule; `seen_by`: the chooser's own cost model, where it has one."""
    encoder, worth = Encoder(seen_by or sim.cost_model), sim.cost_model.objective.loss_drop
    raw = sim.reset(np.arange(FIRST_SEED, FIRST_SEED + sim.num_envs), tau)
    objective, drop, rounds = np.zeros(sim.num_envs), np.zeros(sim.num_envs), np.zeros(sim.num_envs)
    for _ in range(sim.num_requests):
        rounds = sim.job.num_rounds.copy() if sim.job is not None else rounds
        step = sim.step(*split_actions(choose(encoder.encode(raw))))
        objective, drop, raw = objective + step.reward, drop + step.loss_drop, step.raw
    return Played(objective, (worth * drop - objective) / sim.num_requests, drop, rounds)


def tell(name: str, played: Played, best: Played | None = None) -> None:
    """A line; with `best` also by how much its episodes were better, with a 95 % interval over pairs."""
    text = f"{name:28} {played.objective.mean():9.2f} {played.cost.mean():9.4f} {played.drop.mean():9.3f} {played.rounds.mean():7.1f}"
    if best is not None:
        gain = best.objective - played.objective
        text += f"   {gain.mean():+7.2f} +- {1.96 * gain.std(ddof=1) / np.sqrt(len(gain)):.2f}"
    print(text, flush=True)


def main() -> None:
    scenario = load_scenario("train-and-serve")
    profile = read_profile(None, scenario)
    assert profile.job is not None
    for off in profile.job.errors:
        print(off)
    decisions = catalogued(scenario, profile).decisions
    sim = VectorSim(scenario, profile, NUM_EPISODES, decisions=decisions, expected_error=True, pool_size=NUM_EPISODES)
    traits = sim.cost_model.job
    assert traits is not None
    rules = {f"tau {tau}": fixed_tau(scenario.fit, tau) for tau in traits.taus} | {"adaptive tau": adaptive_tau(scenario.fit)}
    print(f"{'policy':28} {'objective':>9} {'cost/req':>9} {'loss fall':>9} {'rounds':>7}   learned minus it")
    greedy = {name: play(sim, choose_greedily, rule) for name, rule in rules.items()}
    for name, played in greedy.items():
        tell(f"greedy, {name}", played)
    for seed in TRAINING_SEEDS:
        began_s = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            bundle: Bundle = train(scenario, profile, seed=seed, out_dir=Path(folder), decisions=decisions).bundle
        choose, seen_by = network_chooser(bundle.network(), bundle.tau_network()), bundle.manifest.cost_model
        assert seen_by.job is not None
        best = play(sim, choose, decided_tau(scenario.fit, seen_by.job.tau), seen_by)
        print(f"-- training seed {seed}, {scenario.training.timesteps} steps in {time.perf_counter() - began_s:.0f} s")
        tell("learned", best)
        for name, rule in rules.items():
            tell(f"learned, {name}", play(sim, choose, rule, seen_by), best)
        for name, played in greedy.items():
            tell(f"greedy, {name}", played, best)
