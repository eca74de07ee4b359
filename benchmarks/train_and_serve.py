"""Requests and a federated job on one uplink, simulated: fixed taus, adaptive tau, and none, on the same episodes.

Requests are decided by greedy over the catalogue.  The loss surface is fitted to real rounds on digits recorded first; what a
round takes is written here, not measured: a small network's update over a cellular uplink, a device that is slow at training.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from benchmarks.convergence import FITTED, record
from envs.convergence import ConvergenceModel
from envs.convergence_fit import fit
from envs.features import MYOPIC_INDEX, Encoder
from envs.make import resolve
from envs.sim import VectorSim
from envs.simulation.job import JobRun
from envs.training_job import TrainingJob
from runtime.training.tau_control import AdaptiveTau, RoundReport, TauState

SCENARIO, NUM_ENVS, NUM_REQUESTS = "cellular", 16, 1500
TAUS = (1, 5, 10, 20, 50)
TARGET_FRACTION = 0.25
"""The target loss, as a share of the first one."""
PHI = 0.025

AfterStep = Callable[[JobRun, np.ndarray], None]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the episodes."""

    request_cost: float
    missed_fraction: float
    num_rounds: float
    last_loss: float
    seconds_to_target: float
    """Of the episodes that reached it."""
    reached_fraction: float


def make_job(surface: ConvergenceModel) -> TrainingJob:
    """A 60 kB update, and 8 ms for a local step."""
    return TrainingJob(
        step_s=0.008, up_bytes=60_000, down_bytes=60_000, aggregation_s=0.02, learning_rate=0.05, num_clients=8, convergence=surface
    )


def play(job: TrainingJob | None, after: AfterStep) -> Result:
    """The first episode of each environment, the same ones whatever the job."""
    scenario, profile = resolve(SCENARIO, None)
    scenario = msgspec.structs.replace(scenario, workload=msgspec.structs.replace(scenario.workload, num_requests=NUM_REQUESTS))
    sim = VectorSim(scenario, profile, NUM_ENVS, pool_size=NUM_ENVS, job=job)
    encoder, raw = Encoder(sim.cost_model), sim.reset(range(NUM_ENVS))
    target = TARGET_FRACTION * sim.job.loss if sim.job is not None else np.zeros(NUM_ENVS)
    cost, loss = np.zeros(NUM_ENVS), np.full(NUM_ENVS, np.nan) if sim.job is None else sim.job.loss.copy()
    reached_s, missed, rounds = np.full(NUM_ENVS, np.inf), 0, np.zeros(NUM_ENVS)
    for _ in range(NUM_REQUESTS):
        actions = encoder.encode(raw).candidates[:, :, MYOPIC_INDEX].argmin(axis=1)
        if sim.job is not None:
            after(sim.job, sim.at_s)
            rounds = sim.job.num_rounds.copy()
            np.minimum(reached_s, np.where(loss <= target, sim.at_s, np.inf), out=reached_s)
        step = sim.step(actions)
        raw, cost, loss = step.raw, cost - step.reward, loss - step.loss_drop
        missed += int(np.count_nonzero(~step.ended.answered))
    arrived = np.isfinite(reached_s)
    return Result(
        request_cost=float(cost.mean()) / NUM_REQUESTS,
        missed_fraction=missed / (NUM_REQUESTS * NUM_ENVS),
        num_rounds=float(rounds.mean()),
        last_loss=float(loss.mean()),
        seconds_to_target=float(reached_s[arrived].mean()) if arrived.any() else float("nan"),
        reached_fraction=float(arrived.mean()),
    )


def fixed(tau: int) -> AfterStep:
    """The same tau always."""

    def after(job: JobRun, now_s: np.ndarray) -> None:
        job.set_tau(tau)

    return after


class Adaptive:
    """Wang et al.'s controller in each environment; it hears of a round when the next request arrives."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._controllers: list[AdaptiveTau] = []
        self._states: list[TauState] = []

    def __call__(self, job: JobRun, now_s: np.ndarray) -> None:
        """After each decision."""
        if not self._states:
            controller = AdaptiveTau(learning_rate=job.job.learning_rate, budget=self._budget_s, phi=PHI)
            self._controllers, self._states = [controller] * NUM_ENVS, [controller.start() for _ in range(NUM_ENVS)]
            self._rounds, self._began_s = job.num_rounds.copy(), job.began_s.copy()
        for env in (job.num_rounds > self._rounds).nonzero()[0].tolist():
            self._hear(job, env)
        job.set_tau([max(state.tau, 1) for state in self._states])

    def _hear(self, job: JobRun, env: int) -> None:
        state, steps = self._states[env], job.job.step_s
        spent = float(job.began_s[env] - self._began_s[env])
        each = spent / int(job.num_rounds[env] - self._rounds[env])
        surface = job.job.convergence.surface(job.progress.column(env), state.tau, job.job.learning_rate)
        report = RoundReport(step_cost=steps, aggregation_cost=max(each - state.tau * steps, 0.0), spent=spent, surface=surface)
        self._states[env] = self._controllers[env].next(state, report)
        self._rounds[env], self._began_s[env] = job.num_rounds[env], job.began_s[env]


def main() -> None:
    job = make_job(fit([record(tau) for tau in FITTED]))
    scenario, _ = resolve(SCENARIO, None)
    budget_s = NUM_REQUESTS / scenario.workload.rate_per_s
    ways: dict[str, tuple[TrainingJob | None, AfterStep]] = {"no job": (None, fixed(1))}
    ways |= {f"tau {tau}": (msgspec.structs.replace(job, tau=tau), fixed(tau)) for tau in TAUS}
    ways["adaptive"] = (msgspec.structs.replace(job, tau=1), Adaptive(budget_s))
    print(f"SIMULATED, {SCENARIO}, {NUM_ENVS} episodes of {NUM_REQUESTS} requests; target {TARGET_FRACTION:g} of the first loss")
    print(f"{'':9} {'cost/request':>12} {'missed':>7} {'rounds':>7} {'last loss':>9} {'target after':>12} {'reached':>8}")
    for name, (job_or_none, after) in ways.items():
        result = play(job_or_none, after)
        print(
            f"{name:9} {result.request_cost:12.4f} {result.missed_fraction:7.2%} {result.num_rounds:7.1f} {result.last_loss:9.3f} "
            f"{result.seconds_to_target:10.1f} s {result.reached_fraction:8.0%}"
        )
