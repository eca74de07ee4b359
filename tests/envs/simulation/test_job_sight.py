"""What devices know of the job beside their requests, and what becomes of the taus that they decide."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.costs import build_cost_model, legal_decisions
from envs.job_state import JOB_ROW, job_view
from envs.offload import OffloadEnv
from envs.reward import TRAINING_TERM, Objective, cost
from envs.scenario import Scenario
from envs.sim import VectorSim
from envs.simulated import SimulatedSystem
from envs.simulation.job_sight import JobSight
from envs.training_job import TrainingJob
from envs.vector import OffloadVectorEnv
from runtime.errors import InvalidDecision
from runtime.messages import Outcome
from tests.envs.busy import busy_scenario
from tests.envs.jobs import with_job
from tests.envs.profiles import make_profile
from tests.envs.simulation.test_job import JOB

BESIDE = msgspec.structs.replace(JOB, taus=(1, 5, 20))
SEEDS = (7, 8)


def scenario(num_requests: int = 120) -> Scenario:
    """Of which a lower loss is worth something."""
    return msgspec.structs.replace(busy_scenario(num_requests), objective=Objective(loss_drop=3.0))


def make_sim(job: TrainingJob | None = BESIDE) -> VectorSim:
    profile = make_profile(scenario())
    return VectorSim(*with_job(scenario(), profile, job), len(SEEDS), decisions=legal_decisions(profile)[:40], pool_size=len(SEEDS))


def test_news_of_a_round_come_with_its_weights() -> None:
    """Until they land everything is as it was, all steps done; a tau is due from then until one was decided."""
    sight, zero = JobSight(1), np.zeros(1)
    sight.start(np.array([5]), np.array([2.0]))
    sight.decided(zero, np.array([True]))
    sight.begin(np.array([0]), np.array([1.5]), np.array([20]), np.array([1.25]), np.array([0.4]))
    before = job_view(sight.see(np.array([1.4]), np.array([20.0]), np.array([10.0])), 0)
    assert (before.num_rounds, before.tau, before.num_steps, before.loss, before.since_s) == (0, 5, 5, 2.0, 1.4)
    assert (before.outstanding_bytes, before.tau_due) == (10.0, False)
    after = job_view(sight.see(np.array([2.0]), np.array([16.5]), zero), 0)
    assert (after.num_rounds, after.tau, after.num_steps, after.since_s, after.last_round_s) == (1, 20, 3, 0.5, 1.5)
    assert (after.loss, after.loss_drop, after.tau_due) == (1.25, 0.75, True)
    assert (before.drift, after.drift) == (0.0, 0.4)
    sight.decided(np.array([2.0]), np.array([True]))
    assert not job_view(sight.see(np.array([2.1]), np.array([16.0]), zero), 0).tau_due


def test_decided_taus_are_those_of_later_rounds_and_pay() -> None:
    """One is due once a round; what was decided is in force afterwards, and the reward has the worth of the loss's fall."""
    sim, rng = make_sim(), np.random.default_rng(0)
    raw, in_force, drops, due_in = sim.reset(SEEDS), set[int](), np.zeros(2), []
    for _ in range(sim.num_requests):
        assert raw.job is not None
        due_in.append(raw.job[JOB_ROW["tau_due"]].copy())
        in_force |= set(raw.job[JOB_ROW["tau"]].astype(int).tolist())
        step = sim.step(rng.integers(len(sim.decisions), size=2), np.full(2, 2))
        drops += step.loss_drop
        np.testing.assert_allclose(step.reward, 3.0 * step.loss_drop - np.bincount(step.ended.env, step.ended.cost, 2))
        raw = step.raw
    assert in_force == {5, 20}
    assert (drops > 0).all()
    assert 0 < np.sum(due_in) < np.size(due_in)


def test_without_a_job_there_is_nothing_to_decide() -> None:
    """Nothing is seen of one, and a tau is refused."""
    sim = make_sim(None)
    assert sim.reset(SEEDS).job is None
    assert sim.cost_model.job is None
    with pytest.raises(InvalidDecision, match="nothing here has a tau"):
        sim.step(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64))


def make_env() -> OffloadEnv:
    """The typed system with the same job."""
    profile = make_profile(scenario())
    beside, known = with_job(scenario(), profile, BESIDE)
    return OffloadEnv(SimulatedSystem(beside, known), build_cost_model(known, beside, legal_decisions(profile)[:40]))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_environment_is_gymnasium_s() -> None:
    """Spaces, seeding and types as its checker wants them; masks are those of both parts."""
    env = make_env()
    check_env(env, skip_render_check=True)
    env.reset(seed=3)
    assert env.action_masks().shape == (40 + 3,)
    profile = make_profile(scenario())
    vector = OffloadVectorEnv(*with_job(scenario(), profile, BESIDE), 2, decisions=legal_decisions(profile)[:40])
    vector.reset(seed=3)
    vector.step(vector.action_space.sample())
    assert vector.action_masks().shape == (2, 40 + 3)


def test_typed_and_vectorised_worlds_are_one() -> None:
    """The same actions give the same outcomes, losses and rewards; an episode's sum to the loss's fall less the requests' costs."""
    sim, env, actions = make_sim(), make_env(), np.random.default_rng(1).integers([40, 3], size=(120, 2))
    sim.reset(SEEDS)
    env.reset(seed=SEEDS[0])
    vector = [sim.step(np.repeat(row[0], 2), np.repeat(row[1], 2)) for row in actions]
    rewards, outcomes, training = [], list[Outcome](), 0.0
    for row in actions:
        _, reward, done, _, info = env.step(row)
        rewards.append(reward)
        outcomes += info["outcomes"]
        training += info["reward_terms"][TRAINING_TERM]
        assert (info["decision"].tau is None) or info["decision"].tau in BESIDE.taus
    assert done
    assert len(outcomes) == 120
    assert training == pytest.approx(3.0 * sum(step.loss_drop[0] for step in vector))
    paid = sum(cost(scenario().objective, outcome) for outcome in outcomes)
    assert sum(rewards) == pytest.approx(training - paid)
