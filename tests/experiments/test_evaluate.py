"""Fair turns, and an evaluation that outlives what breaks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from envs.costs import build_cost_model
from envs.predictor import Predictor
from envs.workload import draw_requests
from experiments.annotate import Knowledge, latency_forecast
from experiments.evaluate import Evaluation, Progress, evaluate, held_out, schedule
from experiments.records import RecordWriter, read_records
from experiments.rollout import Player, RemotePolicy
from experiments.simgap import by_policy
from runtime.errors import SystemFailure
from runtime.messages import Decision, Observation, Outcome
from tests.envs.profiles import make_observation, make_profile, make_scenario
from tests.experiments.worlds import (
    EDGE,
    EXIT_ENDS,
    NUM_EXAMPLES,
    SPLIT,
    Breaking,
    Fixed,
    QueueSystem,
    ShortestQueue,
    toy_players,
    toy_scenario,
)
from tests.runtime.test_awake import linux

SCENARIO = toy_scenario()


def play_all(**options: object) -> Evaluation:
    """Every toy policy on every seed."""
    return evaluate(SCENARIO, lambda: QueueSystem(SCENARIO), toy_players(), SCENARIO.evaluation.seeds, **options)  # type: ignore[arg-type]


def test_each_policy_meets_each_request_once() -> None:
    """Policies x seeds x requests records, and no failure."""
    played = play_all()
    assert Counter(record.policy for record in played.records) == dict.fromkeys(toy_players(), 180)
    assert len({(record.policy, record.key) for record in played.records}) == 5 * 180
    assert played.failures == ()


def test_all_policies_meet_the_same_requests() -> None:
    """Arrival and picture belong to (seed, request), whoever decides."""
    played = play_all(knowledge=Knowledge(num_examples=NUM_EXAMPLES))
    requests = {(record.key, record.arrival_s, record.example) for record in played.records}
    assert len(requests) == 180
    drawn = draw_requests(SCENARIO.workload, 2, NUM_EXAMPLES)
    second = sorted((record for record in played.records if record.seed == 2 and record.policy == "random"), key=lambda record: record.key)
    assert [record.arrival_s for record in second] == drawn.arrival_s.tolist()
    assert [record.example for record in second] == drawn.example.tolist()


def test_turns_are_fair() -> None:
    """Seed by seed; over the seeds no policy is always early or late."""
    names = list("abcdefgh")
    turns = schedule(names, [1, 2, 3, 4])
    assert [seed for _, seed in turns] == [seed for seed in (1, 2, 3, 4) for _ in names]
    places = {name: [turns[8 * index : 8 * index + 8].index((name, index + 1)) for index in range(4)] for name in names}
    assert all(abs(np.mean(place) - 3.5) <= 0.5 for place in places.values())


def test_a_policy_sees_an_episode_as_it_would_alone() -> None:
    """Nothing is carried over from the policy that played before."""
    together = [record for record in play_all().records if record.policy == "random"]
    alone = evaluate(SCENARIO, lambda: QueueSystem(SCENARIO), {"random": toy_players()["random"]}, SCENARIO.evaluation.seeds)
    assert [(record.key, record.cost) for record in together] == [(record.key, record.cost) for record in alone.records]


def test_a_broken_episode_is_told_and_the_rest_is_played() -> None:
    """The system fails on one seed: those episodes are lost, the others are whole, and each time a new system is made."""
    made: list[Breaking] = []

    def make() -> Breaking:
        made.append(Breaking(SCENARIO, lambda seed: seed == 2))
        return made[-1]

    played = evaluate(SCENARIO, make, {"edge-only": Fixed("e", EDGE), "learned": ShortestQueue()}, (1, 2, 3))
    assert {(failure.policy, failure.seed) for failure in played.failures} == {("edge-only", 2), ("learned", 2)}
    assert all("SystemFailure: the edge node died" in failure.error for failure in played.failures)
    assert Counter(record.seed for record in played.records) == {1: 120, 3: 120}
    assert len(made) == 3
    assert [system.num_closed for system in made] == [1, 1, 1]


def test_a_policy_that_raises_loses_only_its_own_episodes() -> None:
    """Policies may be anybody's code."""

    class Wrong(Fixed):
        def decide(self, observation: Observation) -> Decision:
            """A bug."""
            raise KeyError("nothing")

    played = evaluate(SCENARIO, lambda: QueueSystem(SCENARIO), {"wrong": Wrong("w", EDGE), "edge-only": Fixed("e", EDGE)}, (1,))
    assert [failure.policy for failure in played.failures] == ["wrong"]
    assert "KeyError" in played.failures[0].error
    assert len(played.records) == 60


def test_when_no_system_can_be_made_again_the_rest_is_told() -> None:
    """It is tried once, not once per remaining episode."""
    tries: list[int] = []

    def make() -> QueueSystem:
        tries.append(1)
        if len(tries) > 1:
            raise SystemFailure("no free port")
        return Breaking(SCENARIO, lambda seed: seed == 2)

    played = evaluate(SCENARIO, make, {"edge-only": Fixed("e", EDGE)}, (1, 2, 3, 4))
    assert [(failure.seed, failure.error.split(": ")[1]) for failure in played.failures] == [
        (2, "the edge node died"),
        (3, "no free port"),
        (4, "no free port"),
    ]
    assert len(tries) == 2
    assert len(played.records) == 60


def test_a_system_that_cannot_be_made_at_all_is_an_error() -> None:
    """Nothing was played: there is nothing to save."""

    def make() -> QueueSystem:
        raise SystemFailure("no free port")

    with pytest.raises(SystemFailure, match="no free port"):
        evaluate(SCENARIO, make, {"edge-only": Fixed("e", EDGE)}, (1,))


def test_records_are_on_disk_as_episodes_end(tmp_path: Path) -> None:
    """When the user stops it in the fourth episode, three are there; the system is closed."""
    systems: list[QueueSystem] = []

    def make() -> QueueSystem:
        systems.append(QueueSystem(SCENARIO))
        return systems[-1]

    def stop_in_fourth(progress: Progress) -> None:
        if progress.episode == 3:
            raise KeyboardInterrupt

    with RecordWriter(tmp_path / "records.jsonl") as writer, pytest.raises(KeyboardInterrupt):
        evaluate(SCENARIO, make, toy_players(), (1, 2), writer=writer, progress=stop_in_fourth)
    assert len(by_policy(read_records(tmp_path / "records.jsonl"))) == 3
    assert systems[0].num_closed == 1


class Scripted:
    """A meter whose every episode has its share of stolen time written down beforehand."""

    def __init__(self, shares: list[float | None]) -> None:
        self._shares = iter(shares)

    def __call__(self) -> Scripted:
        return self

    def fraction(self) -> float | None:
        """The next one."""
        return next(self._shares)


def repeated(monkeypatch: pytest.MonkeyPatch, shares: list[float | None], max_repeats: int = 2, **options: object) -> Evaluation:
    """One policy on four seeds, the first four shares being of the first attempts."""
    monkeypatch.setattr("experiments.evaluate.StealMeter", Scripted(shares))
    evaluation = msgspec.structs.replace(SCENARIO.evaluation, max_repeats=max_repeats)
    scenario = msgspec.structs.replace(SCENARIO, evaluation=evaluation)
    return evaluate(scenario, lambda: QueueSystem(scenario), {"edge-only": Fixed("e", EDGE)}, (1, 2, 3, 4), **options)  # type: ignore[arg-type]


def stolen(played: Evaluation) -> dict[int, set[tuple[float | None, int]]]:
    """Seed -> (stolen share, attempts) of what counts."""
    return {seed: {(record.host_steal, record.attempts) for record in played.records if record.seed == seed} for seed in (1, 2, 3, 4)}


def test_what_the_host_disturbed_most_is_played_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The less disturbed attempt counts, the other leaves no record; what the budget does not reach stays as it was."""
    with RecordWriter(tmp_path / "records.jsonl") as writer:
        played = repeated(monkeypatch, [0.1, 0.5, 0.0, 0.2, 0.01, 0.3], writer=writer)
    assert stolen(played) == {1: {(0.1, 1)}, 2: {(0.01, 2)}, 3: {(0.0, 1)}, 4: {(0.2, 2)}}
    assert len({record.key for record in played.records}) == len(played.records)
    assert sorted(record.key for record in read_records(tmp_path / "records.jsonl")) == sorted(record.key for record in played.records)


def test_nothing_is_played_again_without_need_or_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a quiet host, where the host does not tell, and with a budget of none."""
    for shares, max_repeats in (([0.0, 0.02, 0.01, 0.0], 2), ([None] * 4, 2), ([0.5] * 4, 0)):
        assert {attempts for seen in stolen(repeated(monkeypatch, list(shares), max_repeats)).values() for _, attempts in seen} == {1}


def test_a_disturbed_episode_is_kept_when_the_second_attempt_ends_early(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user stops it: what was played is on disk, once."""

    def stop_in_fifth(progress: Progress) -> None:
        if progress.repeated:
            raise KeyboardInterrupt

    with RecordWriter(tmp_path / "records.jsonl") as writer, pytest.raises(KeyboardInterrupt):
        repeated(monkeypatch, [0.1, 0.5, 0.0, 0.2], writer=writer, progress=stop_in_fifth)
    records = read_records(tmp_path / "records.jsonl")
    assert len({record.key for record in records}) == len(records) == 4 * SCENARIO.workload.num_requests


@linux
@pytest.mark.parametrize("wanted", [False, True])
def test_processors_are_kept_awake_while_live_episodes_are_played(wanted: bool) -> None:
    """If the scenario wants it, until the last has ended, and records say so."""
    others, seen = set(psutil.Process().children()), set[bool]()

    def spinning() -> bool:
        return set(psutil.Process().children()) > others

    evaluation = msgspec.structs.replace(SCENARIO.evaluation, keep_awake=wanted)
    scenario = msgspec.structs.replace(SCENARIO, evaluation=evaluation)
    players = {"edge-only": Fixed("e", EDGE)}
    played = evaluate(scenario, lambda: QueueSystem(scenario), players, (1,), progress=lambda _: seen.add(spinning()))
    assert {record.kept_awake for record in played.records} == seen == {wanted}
    assert not spinning()


def test_progress_counts_up() -> None:
    """Within each episode to its number of requests, over all episodes."""
    reports: list[Progress] = []
    play_all(progress=reports.append)
    assert {report.episode for report in reports} == set(range(15))
    assert max(report.num_ended for report in reports) == reports[0].num_requests == 60
    assert reports[0].num_episodes == 15
    assert reports[0].system == "live"


def test_a_daemon_plays_among_the_others() -> None:
    """Remote and local players in one evaluation; decision times are the device's for both."""
    players: dict[str, Player] = {"learned": RemotePolicy(name="bundle", endpoint="tcp://d:1"), "edge-only": Fixed("e", EDGE)}
    played = evaluate(SCENARIO, lambda: QueueSystem(SCENARIO, controllers={"tcp://d:1": ShortestQueue()}), players, (1,))
    groups = by_policy(played.records)
    assert {record.decision_s for record in groups["learned"]} == {0.001}
    assert {record.thinking_s for record in groups["learned"]} == {None}
    assert all(record.thinking_s is not None for record in groups["edge-only"])


def test_records_know_what_was_expected() -> None:
    """Placement, prediction and replay; a simulator 10 % slower says so."""
    knowledge = Knowledge(
        exit_ends=EXIT_ENDS, forecast=lambda observation, decision: observation.at_s + decision.cuts[1], replayer=QueueSystem(SCENARIO, 1.1)
    )
    played = evaluate(SCENARIO, lambda: QueueSystem(SCENARIO), {"split": Fixed("s", SPLIT)}, (1,), knowledge=knowledge)
    first = played.records[0]
    assert first.placement == "device+edge+cloud"
    assert first.decision_label == "int8 x1 d1-e2"
    assert first.predicted_latency_s == pytest.approx(first.arrival_s + 2)
    assert first.simulated_latency_s == pytest.approx(1.1 * first.latency_s)
    assert first.cost == pytest.approx(sum(first.cost_terms.values()))


def test_records_say_what_was_reused() -> None:
    """Exit, kind and tier are there; the forecast, which knows no reuse, is not."""

    class Reusing(QueueSystem):
        """Every answer comes from the cloud's cache."""

        def _ended(self, now_s: float) -> tuple[Outcome, ...]:
            reused = {"exit": 1, "reused": "cache-exact", "reused_at": "cloud"}
            return tuple(msgspec.structs.replace(outcome, **reused) for outcome in super()._ended(now_s))

    knowledge = Knowledge(forecast=lambda observation, decision: 1.0, replayer=QueueSystem(SCENARIO))
    for make, expected in ((QueueSystem, (None, "no", None)), (Reusing, (1, "cache-exact", "cloud"))):
        played = evaluate(SCENARIO, lambda make=make: make(SCENARIO), {"split": Fixed("s", SPLIT)}, (1,), knowledge=knowledge)  # type: ignore[misc]
        assert {(record.exit, record.reused, record.reused_at) for record in played.records} == {expected}
        assert {record.predicted_latency_s for record in played.records} == {1.0 if expected[1] == "no" else None}
        assert {record.simulated_status for record in played.records} == {"ok"}


def test_records_say_what_was_handed_over() -> None:
    """Where it was computed and what crossed are there; the forecast, which knows one edge, is not."""

    class Sharing(QueueSystem):
        """Every answer comes from another edge."""

        def _ended(self, now_s: float) -> tuple[Outcome, ...]:
            ended = super()._ended(now_s)
            return tuple(msgspec.structs.replace(outcome, handed_over=True, handover_bytes=(9, 7)) for outcome in ended)

    knowledge = Knowledge(forecast=lambda observation, decision: 1.0, replayer=QueueSystem(SCENARIO))
    played = evaluate(SCENARIO, lambda: Sharing(SCENARIO), {"split": Fixed("s", SPLIT)}, (1,), knowledge=knowledge)
    assert {(record.handed_over, record.handover_bytes) for record in played.records} == {(True, (9, 7))}
    assert {(record.predicted_latency_s, record.simulated_status) for record in played.records} == {(None, "ok")}


def test_the_cost_models_own_forecast() -> None:
    """An idle system is predicted as the cost model adds it up; a decision that it does not have, not at all."""
    scenario = make_scenario()
    cost_model = build_cost_model(make_profile(scenario), scenario)
    decision, observation = cost_model.decisions[-1], make_observation()
    expected = Predictor(cost_model).predict_one(observation).latency_s
    assert latency_forecast(cost_model)(observation, decision) == pytest.approx(expected[cost_model.find(decision)])
    with_tau = msgspec.structs.replace(decision, tau=5)  # which concerns the job beside the requests
    assert latency_forecast(cost_model)(observation, with_tau) == latency_forecast(cost_model)(observation, decision)
    assert latency_forecast(cost_model.restrict(cost_model.decisions[:5]))(observation, decision) is None


def test_a_simulator_that_cannot_replay_does_not_lose_live_records() -> None:
    """The column stays empty."""
    knowledge = Knowledge(replayer=Breaking(SCENARIO, lambda seed: True))
    played = evaluate(SCENARIO, lambda: QueueSystem(SCENARIO), {"split": Fixed("s", SPLIT)}, (1,), knowledge=knowledge)
    assert len(played.records) == 60
    assert {record.simulated_status for record in played.records} == {None}


def test_held_out_episodes_are_as_long_as_the_evaluation_says() -> None:
    """The workload's own length is for training."""
    scenario = toy_scenario(num_requests=60)
    longer = held_out(type(scenario)(name="x", workload=scenario.workload))
    assert longer.workload.num_requests == longer.evaluation.num_requests == 200
