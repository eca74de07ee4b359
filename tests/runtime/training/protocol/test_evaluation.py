"""While the root evaluates a round's weights the clients train on: nothing is lost, mixed up or begun in vain."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.messages import FitJob, Message, Round, RoundRecord, TauSpec
from runtime.training.protocol.tasks import Evaluate, Evaluated, TrainerTask
from tests.runtime.training.protocol.test_rounds import fedavg_by_hand
from tests.runtime.training.protocol.world import LINK_S, STEP_S, World, flat_world, job, loss_on_test_split

ROUND_S = STEP_S + 4 * LINK_S
"""Of one step, over two links and back; and some milliseconds."""
LONG_S = 5 * ROUND_S


def slow_world(given: FitJob, evaluation_s: float = LONG_S) -> World:
    """One whose root takes longer to evaluate than its clients take for a round."""
    world = flat_world(given)
    world.evaluation_s = evaluation_s
    return world


def handed_out(world: World) -> list[tuple[float, int]]:
    """(when, attempt) of each round that device-0 is given, as it happens."""
    rounds: list[tuple[float, int]] = []

    def watch(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and target == "device-0":
            rounds.append((world.now_s, message.round))
        return False

    world.lose = watch
    return rounds


def check_records(world: World, records: tuple[RoundRecord, ...], rounds: int) -> None:
    """Each round once, in order, whole, and with the loss of its own weights."""
    assert [record.round for record in records] == list(range(1, rounds + 1))
    weights = [weights for name, weights in world.trajectory if name == "cloud"]
    assert [record.test_loss for record in records] == pytest.approx([loss_on_test_split(each) for each in weights])
    assert all(record.accuracy == 0.5 for record in records)
    assert sorted(record.at_s for record in records) == [record.at_s for record in records]


def test_the_next_round_does_not_wait_for_the_evaluation() -> None:
    """Weights go out once they are there; and no record has the evaluation's time in it."""
    world = slow_world(job(rounds=4), evaluation_s=ROUND_S / 2)
    rounds = handed_out(world)
    world.start()
    report = world.run()
    gaps = np.diff([at_s for at_s, _ in rounds])
    assert gaps == pytest.approx(ROUND_S, abs=0.01)
    assert np.diff([record.at_s for record in report.records]) == pytest.approx(ROUND_S, abs=0.01)
    check_records(world, report.records, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"architecture": "hierarchical"},
        {"evaluate_every": 1, "tau": TauSpec(tau=3)},
        {"tau": TauSpec(rule="decided", tau=1)},
        {"target_accuracy": 0.6},
    ],
    ids=["federated", "hierarchical", "fixed", "decided", "target"],
)
def test_records_are_whole_and_in_order_however_long_an_evaluation_takes(changes: dict[str, object]) -> None:
    """At most one is under way: a round that is done meanwhile waits for it."""
    world = slow_world(job(rounds=5, **changes))
    world.start()
    report = world.run()
    assert report.phase == "done"
    check_records(world, report.records, 5)


def test_masked_rounds_too() -> None:
    """The masks of the next round are exchanged during the evaluation."""
    pytest.importorskip("cryptography", reason="secure aggregation needs the extra drlctl[secure]")
    data = msgspec.structs.replace(job().data, num_clients=3)
    world = slow_world(job(rounds=3, data=data, secure_aggregation=True, step_deadline_s=1.0))
    world.start()
    report = world.run()
    assert report.phase == "done"
    check_records(world, report.records, 3)
    assert all(record.masking is not None for record in report.records)


def test_only_evaluated_rounds_wait() -> None:
    """Those between two evaluations are told without, at once; the last one has its own."""
    world = slow_world(job(rounds=5, evaluate_every=2))
    world.start()
    report = world.run()
    assert report.phase == "done"
    assert [record.accuracy for record in report.records] == [None, 0.5, None, 0.5, 0.5]


def test_no_round_is_begun_beyond_a_target() -> None:
    """It waits for the evaluation, and everything that was sent is in a record."""
    world = slow_world(job(rounds=9, target_accuracy=0.5))
    rounds = handed_out(world)
    world.start()
    report = world.run()
    assert (report.phase, report.round, len(rounds)) == ("done", 1, 1)


@pytest.mark.parametrize("at_s", np.arange(0.05, 1.5, 0.11).round(2).tolist())
def test_a_root_killed_at_any_moment_ends_where_one_ends_that_was_not(tmp_path: Path, at_s: float) -> None:
    """Also between a round's weights and its record: it is played again, under a number that no client has seen."""
    given = job(rounds=6, folder=str(tmp_path))
    world = slow_world(given, evaluation_s=ROUND_S / 2)
    rounds = handed_out(world)
    world.start()
    world.at(at_s, lambda: world.kill("cloud"))
    world.at(at_s + 0.2, lambda: world.restart("cloud"))
    world.at(at_s + 0.2, lambda: world.start("cloud"))
    report = world.run(until_s=300.0)
    assert report.phase == "done"
    assert [record.round for record in report.records] == [1, 2, 3, 4, 5, 6]
    assert all(record.test_loss is not None for record in report.records)
    np.testing.assert_allclose(world.trajectory[-1][1], fedavg_by_hand(6, 1, 2)[-1], rtol=1e-5)
    numbers = [number for _, number in rounds]
    assert numbers == sorted(numbers)


def test_what_cannot_be_evaluated_is_told_without() -> None:
    """And why; the job goes on."""
    world = flat_world(job(rounds=2))
    root = world.nodes["cloud"]
    compute = root.compute

    def fail(task: TrainerTask) -> object:
        return Evaluated(job=task.job, error="out of memory") if isinstance(task, Evaluate) else compute(task)

    root.compute = fail  # type: ignore[method-assign,assignment]
    world.start()
    report = world.run()
    assert (report.phase, [record.accuracy for record in report.records]) == ("done", [None, None])
    assert report.message == "round 2 was not evaluated: out of memory"


def test_a_job_that_fails_meanwhile_still_tells_of_the_round_before() -> None:
    """Its clients are silent after the first round, and the evaluation ends last."""
    world = slow_world(job(rounds=3, round_deadline_s=0.3, max_failed_rounds=1), evaluation_s=2.0)
    lost: list[float] = []

    def lose(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and message.num_rounds == 1:
            lost.append(world.now_s)
            return True
        return False

    world.lose = lose
    world.start()
    report = world.run()
    assert report.phase == "failed"
    assert lost
    check_records(world, report.records, 1)
