"""A whole run beside a training job, on the simulator: rules of tau play, the objective is what requests cost less what the job brought."""

from __future__ import annotations

import io

import msgspec
import pytest

from agents.heuristics.greedy import Greedy
from envs.catalogue import build_catalogue
from envs.costs import build_cost_model
from envs.job_config import adaptive_tau, fixed_tau
from envs.reward import TRAINING_TERM, Objective
from envs.scenario import EvaluationConfig, Scenario
from envs.simulated import SimulatedSystem
from experiments.annotate import Knowledge
from experiments.comparison import Contest, compare
from experiments.evaluate import held_out
from experiments.job_summary import objectives
from experiments.job_table import job_rows, job_table
from experiments.records import Record, read_records
from experiments.rollout import Player, WithTau, run_episode
from experiments.runs import create_run
from experiments.summary import Summary
from experiments.table import print_summary
from runtime.errors import InvalidInput
from runtime.profile import Profile
from tests.envs.jobs import with_job
from tests.envs.profiles import NUM_EXAMPLES, make_profile, make_scenario
from tests.envs.simulation.test_job_sight import BESIDE
from tests.experiments.worlds import EDGE, Fixed, QueueSystem, toy_scenario

SEEDS, NUM_REQUESTS, WORTH = (1001, 1002), 60, 3.0
OWN, FAST, ADAPTIVE = "greedy", "greedy, tau 1", "greedy, adaptive tau"


def problem() -> tuple[Scenario, Profile]:
    """Congested, with a job beside the requests."""
    evaluation = EvaluationConfig(seeds=SEEDS, num_requests=NUM_REQUESTS)
    shipped = msgspec.structs.replace(make_scenario(), evaluation=evaluation, objective=Objective(loss_drop=WORTH))
    return with_job(held_out(shipped), make_profile(shipped), BESIDE)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, list[Record]]:
    """Greedy beside three taus, the simulator standing for the live system, too."""
    scenario, profile = problem()
    every = build_cost_model(profile, scenario)
    greedy = Greedy(every.restrict(build_catalogue(every, samples=500).decisions))
    rules = {FAST: fixed_tau(scenario.fit, 1), ADAPTIVE: msgspec.structs.replace(adaptive_tau(scenario.fit), phi=5e-5)}
    players: dict[str, Player] = {OWN: greedy} | {name: WithTau(name=name, player=greedy, tau=rule) for name, rule in rules.items()}
    contest = Contest(
        scenario=scenario,
        players=players,
        make_system=lambda: SimulatedSystem(scenario, profile, split="test"),
        system_kind="simulated",
        knowledge=Knowledge(num_examples=NUM_EXAMPLES, replayer=SimulatedSystem(scenario, profile, split="test")),
    )
    folder = create_run(tmp_path_factory.mktemp("runs"), scenario, command=["x"], seeds=SEEDS, learned=OWN)
    return compare(contest, folder), read_records(folder.records)


def test_what_the_job_brought_is_shared_out_among_the_requests(played: tuple[Summary, list[Record]]) -> None:
    """Costs sum to the requests' own less the worth of the loss's fall; its share is the same in all records of an episode."""
    summary, records = played
    for name, policy in summary.policies.items():
        assert policy.job is not None
        for seed in SEEDS:
            episode = [record for record in records if (record.policy, record.seed) == (name, seed)]
            (report,) = {record.job for record in episode}
            assert report is not None
            own = sum(cost for record in episode for term, cost in record.cost_terms.items() if term != TRAINING_TERM)
            assert policy.job.objective_by_seed[str(seed)] == pytest.approx(WORTH * report.loss_drop - own)
        assert policy.job.objective_mean == pytest.approx(-policy.cost_mean * NUM_REQUESTS)
        assert TRAINING_TERM in policy.cost_terms


def test_rules_of_tau_are_followed(played: tuple[Summary, list[Record]]) -> None:
    """One step a round, the job's own five, or what adaptive tau makes of it; more rounds where they are shorter."""
    jobs = {name: policy.job for name, policy in played[0].policies.items()}
    own, fast, adaptive = jobs[OWN], jobs[FAST], jobs[ADAPTIVE]
    assert own is not None
    assert fast is not None
    assert adaptive is not None
    assert (own.steps_per_round, fast.steps_per_round) == (5.0, 1.0)
    assert adaptive.steps_per_round not in (1.0, 5.0)
    assert fast.rounds_mean > own.rounds_mean


def test_the_learned_one_is_held_against_the_rest_by_seed(played: tuple[Summary, list[Record]]) -> None:
    """Paired: the mean of the differences, none for itself; the tables say it."""
    summary, records = played
    by_name = {name: objectives([record for record in records if record.policy == name]) for name in summary.policies}
    other = summary.policies[FAST].job
    assert other is not None
    assert other.learned_gains_mean == pytest.approx(sum(by_name[OWN][seed] - by_name[FAST][seed] for seed in SEEDS) / len(SEEDS))
    assert other.learned_gains is not None
    assert summary.policies[OWN].job is not None
    assert summary.policies[OWN].job.learned_gains_mean is None
    rows = job_rows(summary)
    assert {row[0] for row in rows} == {OWN, FAST, ADAPTIVE}
    assert [float(row[1]) for row in rows] == sorted((float(row[1]) for row in rows), reverse=True)
    text = io.StringIO()
    print_summary(summary, text)
    assert "beside the requests, simulated" in text.getvalue()
    assert "adaptive tau" in job_table(summary)


def test_replays_follow_the_rule_too(played: tuple[Summary, list[Record]]) -> None:
    """The simulator agrees with itself, whoever set tau."""
    for record in played[1]:
        if record.simulated_latency_s is not None:
            assert record.simulated_latency_s == pytest.approx(record.latency_s, abs=1e-9)


def test_a_system_without_a_job_has_no_rule_to_follow() -> None:
    """It says so instead of playing without."""
    scenario, _ = problem()
    player = WithTau(name="edge-only, tau 1", player=Fixed("edge-only", EDGE), tau=fixed_tau(scenario.fit, 1))
    with pytest.raises(InvalidInput, match="trains no job"):
        run_episode(QueueSystem(toy_scenario()), player, seed=1)
