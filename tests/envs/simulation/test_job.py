"""A training job in the vectorised simulator: exact against the event-driven one, and no more than a job beside the requests."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from envs.costs import legal_decisions
from envs.job_state import JOB_ROW
from envs.raw_state import RAW_FIELDS, RawState
from envs.scenario import Scenario
from envs.sim import VectorSim
from envs.training_job import TrainingJob, training_job
from envs.workload import BackgroundConfig
from runtime.errors import InvalidInput, InvalidProfile
from runtime.messages import FitJob, TauSpec
from runtime.profile import Profile
from runtime.rates import CellularRate, ConstantRate
from runtime.topology import LinkConfig
from runtime.training.convergence import ConvergenceModel
from runtime.training.job_profiler import profile_job
from runtime.training.recording import RecordedRound, Recording
from runtime.training.tau_control import MORE_BYTES
from tests.envs.busy import busy_scenario
from tests.envs.jobs import with_job
from tests.envs.profiles import make_profile
from tests.envs.reference_sim import World

SEEDS = (101, 102)
SURFACE = ConvergenceModel(
    curvatures=(1.0, 0.1), initial_gaps=(1.0, 1.0), irreducible_loss=0.1, noise=0.01, spread=0.5, heterogeneity=(0.1, 0.1)
)
JOB = TrainingJob(
    step_s=0.011, up_bytes=40_000, down_bytes=40_000, aggregation_s=0.05, num_clients=8, learning_rate=0.1, tau=5, taus=(5,),
    convergence=SURFACE,
)  # fmt: skip
SHORT = msgspec.structs.replace(JOB, step_s=0.002, up_bytes=3_000, down_bytes=3_000, aggregation_s=0.0, tau=1, taus=(1,))
LONG = msgspec.structs.replace(JOB, step_s=0.003, up_bytes=400_000, tau=37, taus=(37,))


def varying() -> Scenario:
    """A link that fades, so that an update may take seconds."""
    scenario = busy_scenario()
    wild = CellularRate(median_bytes_per_s=300_000, sigma=1.5, fade_every_s=3.0, fade_s=1.0, fade_factor=0.05)
    uplink = LinkConfig(rate=wild, down_rate=wild, delay_s=0.02, jitter_s=0.03)
    return msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, uplink=uplink))


def constant() -> Scenario:
    """Everything steady and nobody else on the edge."""
    scenario = busy_scenario()
    uplink = LinkConfig(rate=ConstantRate(bytes_per_s=1_000_000), down_rate=ConstantRate(bytes_per_s=2_000_000), delay_s=0.01)
    topology = msgspec.structs.replace(scenario.topology, uplink=uplink)
    return msgspec.structs.replace(scenario, topology=topology, background=BackgroundConfig())


def make_sim(scenario: Scenario, profile: Profile, job: TrainingJob | None, num_envs: int = 2) -> VectorSim:
    return VectorSim(*with_job(scenario, profile, job), num_envs, decisions=legal_decisions(profile), pool_size=num_envs)


def actions_for(sim: VectorSim) -> np.ndarray:
    """Any decision at any time."""
    return np.random.default_rng(0).integers(len(sim.decisions), size=(sim.num_requests, sim.num_envs))


@pytest.mark.parametrize("job", [JOB, SHORT, LONG], ids=["medium", "short rounds", "long rounds"])
@pytest.mark.parametrize("make", [busy_scenario, varying, constant])
def test_it_is_exact(make: type[Scenario], job: TrainingJob) -> None:
    """Requests' latencies, the rounds and the loss are those of a simulation in which every interruption is an event."""
    scenario: Scenario = make()
    profile = make_profile(scenario)
    sim = make_sim(scenario, profile, job)
    raw, actions = sim.reset(SEEDS), actions_for(sim)
    latency_s, observed = np.full(actions.shape, np.nan), np.empty((len(actions), len(RAW_FIELDS), 2))
    drops, initial, seen = np.zeros(2), SURFACE.loss(SURFACE.start(2)), np.empty((len(actions), 3, 2))
    for index, row in enumerate(actions):
        observed[index] = raw.matrix
        assert raw.job is not None
        seen[index] = raw.job[[JOB_ROW["num_rounds"], JOB_ROW["since_s"], JOB_ROW["num_steps"]]]
        if index == len(actions) - 1:
            rounds_before_last = sim.job.num_rounds.copy()
        step = sim.step(row)
        raw = step.raw
        latency_s[step.ended.request, step.ended.env] = step.ended.latency_s
        drops += step.loss_drop
    for env, seed in enumerate(SEEDS):
        world = World(scenario, profile, seed, training=job)
        outcomes = world.play([sim.decisions[action] for action in actions[:, env]])
        np.testing.assert_allclose(latency_s[:, env], [outcome.latency_s for outcome in outcomes], rtol=0, atol=1e-9)
        assert world.job is not None
        assert 0 <= len(world.job.aggregated_at_s) - rounds_before_last[env] <= 1
        assert initial[env] - drops[env] == pytest.approx(world.job.final_loss(), abs=1e-9)
        expected = np.array(world.job.views)
        np.testing.assert_allclose(seen[:, :2, env], expected[:, :2], rtol=0, atol=1e-9)
        steps_under_way = expected[:, 2] - seen[:, 2, env]  # a part of one, rounding aside
        ahead = profile.overheads.base_s / job.step_s  # steps are known until the request before joined the queue: an overhead later
        assert steps_under_way.min() >= -ahead - 1e-5
        assert steps_under_way.max() < 1 + 1e-5
        told = RawState.from_observations(world.observations).matrix.T
        gaps_s = np.diff([observation.at_s for observation in world.observations], prepend=-1.0)
        settled = gaps_s > profile.overheads.base_s
        agree = np.isclose(observed[:, :, env], told, rtol=1e-4, atol=1e-6) | ~settled[:, None]
        assert agree.mean(axis=0).min() >= 0.97, {name: agree[:, row].mean() for row, name in enumerate(RAW_FIELDS)}


def play(sim: VectorSim, actions: np.ndarray, tau: int | None = None) -> tuple[float, np.ndarray, float]:
    """(mean latency, rounds aggregated before the last request, loss drop) of the first episode of SEEDS."""
    sim.reset(SEEDS, TauSpec(tau=tau) if tau is not None else None)
    latencies, drop, rounds = [], 0.0, np.zeros(2)
    for row in actions:
        rounds = sim.job.num_rounds.copy() if sim.job is not None else rounds
        step = sim.step(row)
        latencies.extend(step.ended.latency_s.tolist())
        drop += float(step.loss_drop.sum())
    return float(np.mean(latencies)), rounds, drop


def test_training_delays_requests_and_requests_delay_training() -> None:
    """Each is slower beside the other than alone."""
    scenario = constant()
    profile = make_profile(scenario)
    alone, beside = make_sim(scenario, profile, None), make_sim(scenario, profile, JOB)
    actions = actions_for(alone)
    latency_alone_s, _, no_drop = play(alone, actions)
    latency_s, rounds, drop = play(beside, actions)
    assert latency_s > latency_alone_s
    assert no_drop == 0.0 < drop
    quiet = msgspec.structs.replace(scenario, workload=msgspec.structs.replace(scenario.workload, deadline_s=1e-3))
    _, undisturbed, _ = play(make_sim(quiet, profile, JOB), actions)  # every request expires before it takes anything
    assert (undisturbed > rounds).all()


def test_tau_takes_effect_with_the_next_round() -> None:
    """The present round keeps the tau it began with; longer rounds are fewer."""
    scenario = constant()
    sim = make_sim(scenario, make_profile(scenario), JOB)
    sim.reset(SEEDS)
    sim.job.decide(np.full(2, 30), np.full(2, True), sim.at_s)
    assert (sim.job.tau_now == JOB.tau).all()
    actions = actions_for(sim)
    while (sim.job.num_rounds == 0).any():
        sim.step(actions[0])
    assert (sim.job.tau_now == 30).all()
    _, few, _ = play(sim, actions, tau=30)
    _, many, _ = play(sim, actions, tau=1)
    assert (many > few).all()


def test_looking_ahead_changes_nothing() -> None:
    """Asking for the pending cost leaves requests and rounds as they would have been."""
    scenario = varying()
    profile = make_profile(scenario)
    sim, watched = make_sim(scenario, profile, JOB), make_sim(scenario, profile, JOB)
    sim.reset(SEEDS)
    watched.reset(SEEDS)
    for row in actions_for(sim):
        expected, step = sim.step(row), watched.step(row)
        assert (step.reward == expected.reward).all()
        assert (step.loss_drop == expected.loss_drop).all()
        assert (watched.pending_cost >= 0).all()


def recorded(taus: Sequence[int]) -> Recording:
    """Rounds whose loss falls as SURFACE says."""
    progress, records = SURFACE.start(1), []
    for number, tau in enumerate(taus):
        progress = SURFACE.step(progress, tau, 0.1, 8)
        records.append(
            RecordedRound(
                round=number, tau=tau, num_clients=8, loss=float(SURFACE.loss(progress)[0]), compute_s=0.1 * tau, transfer_s=0.3,
                waiting_s=0.02, up_bytes=800, down_bytes=1600,
            )
        )  # fmt: skip
    return Recording(learning_rate=0.1, initial_loss=float(SURFACE.loss(SURFACE.start(1))[0]), rounds=tuple(records))


@pytest.mark.slow
def test_a_profile_has_the_times_of_the_recorded_rounds() -> None:
    """Per step, per client and per round; what the link does not explain is waiting; each run has its error, and one is held out."""
    profiled = profile_job(FitJob(), [recorded([2] * 10 + [4] * 4)], [recorded([8] * 4)], lambda up, down: (up + down) / 1000)
    assert (profiled.step_s, profiled.up_bytes, profiled.down_bytes) == pytest.approx((0.1, 100, 200))
    assert profiled.aggregation_s == pytest.approx(0.32 - 0.3)
    assert [(error.tau, error.held_out, error.num_rounds) for error in profiled.errors] == [(None, False, 14), (8, True, 4)]
    assert profiled.errors[0].mean_relative < 0.05
    bare = Recording(learning_rate=0.1, initial_loss=2.0, rounds=(RecordedRound(round=0, tau=1, num_clients=1, loss=1.0),))
    for recordings in ([], [bare]):
        with pytest.raises(InvalidInput):
            profile_job(FitJob(), recordings, [], lambda up, down: 0.0)


def test_a_profile_of_another_job_is_refused() -> None:
    """With the command that measures the right one; other taus are the same job."""
    scenario, profile = with_job(constant(), make_profile(constant()), JOB)
    assert training_job(scenario, profile) == JOB
    longer = msgspec.structs.replace(scenario.fit, tau=TauSpec(tau=5, max_tau=50), rounds=3)
    assert training_job(scenario.of_fit(longer), profile) is not None
    other = scenario.of_fit(msgspec.structs.replace(scenario.fit, seed=1))
    for wrong, known in ((other, profile), (scenario, msgspec.structs.replace(profile, job=None))):
        with pytest.raises(InvalidProfile, match="drlctl profile congested"):
            training_job(wrong, known)


def test_adaptive_tau_pays_for_what_it_measures() -> None:
    """It begins with 1, changes by itself whatever is decided, and its rounds take a gradient and a sketch of it more."""
    scenario = constant()
    sim = make_sim(scenario, make_profile(scenario), JOB)
    sim.reset(SEEDS, TauSpec(rule="adaptive", tau=5, budget_s=30.0))
    assert sim.job is not None
    assert (sim.job.tau_now == 1).all()
    assert sim.job.up_bytes == JOB.up_bytes + MORE_BYTES
    seen = set[int]()
    for row in actions_for(sim):
        sim.job.decide(np.full(2, 77), np.full(2, True), sim.at_s)
        sim.step(row)
        seen |= set(sim.job.tau_now.tolist())
    assert 77 not in seen
    assert len(seen) > 1
