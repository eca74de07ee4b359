"""A whole run in a folder, with a world of queues for the live system and a slower one for the simulator."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from experiments.annotate import Knowledge
from experiments.comparison import Contest, compare, summarise_run
from experiments.records import read_records
from experiments.rollout import RemotePolicy
from experiments.runs import RunFolder, create_run
from experiments.verdict import verdict
from runtime.errors import InvalidInput
from tests.experiments.worlds import (
    EXIT_ENDS,
    NUM_EXAMPLES,
    Breaking,
    QueueSystem,
    ShortestQueue,
    toy_players,
    toy_scenario,
)

SCENARIO = toy_scenario()


def make_contest(**changes: object) -> Contest:
    """The learned policy through an endpoint, the others here, all of them in the simulator too."""
    contest = Contest(
        scenario=SCENARIO,
        players={**toy_players(), "learned": RemotePolicy(name="bundle", endpoint="tcp://d:1")},
        make_system=lambda: QueueSystem(SCENARIO, controllers={"tcp://d:1": ShortestQueue()}),
        simulated_players=toy_players(),
        make_simulator=lambda: QueueSystem(SCENARIO, 1.1),
        knowledge=Knowledge(exit_ends=EXIT_ENDS, num_examples=NUM_EXAMPLES, replayer=QueueSystem(SCENARIO, 1.1)),
    )
    return msgspec.structs.replace(contest, **changes)


def make_run(root: Path) -> RunFolder:
    """A folder for it."""
    return create_run(root, SCENARIO, command=["drlctl", "evaluate", "toy"], seeds=SCENARIO.evaluation.seeds, learned="learned", name="run")


def test_a_run_leaves_its_records_and_summary(tmp_path: Path) -> None:
    """One line per request and policy in both files; every figure computed from them."""
    folder = make_run(tmp_path)
    summary = compare(make_contest(), folder)
    assert len(read_records(folder.records)) == len(read_records(folder.simulated)) == 5 * 180
    assert {record.system for record in read_records(folder.simulated)} == {"simulated"}
    assert summary.comparison is not None
    assert summary.learned == "learned"
    assert summary.policies["learned"].decided_by == {"controller": 180}
    gap = summary.sim_to_live
    assert gap is not None
    assert 9 < (gap.latency_median_abs_pct_error or 0) < 15
    assert set(gap.cost_pct_error_by_policy) == set(toy_players())


def test_the_summary_can_be_computed_again(tmp_path: Path) -> None:
    """From the files alone, to the last digit, failures included."""
    folder = make_run(tmp_path)
    broken = make_contest(make_system=lambda: Breaking(SCENARIO, lambda seed: seed == 2), players=toy_players())
    summary = compare(broken, folder)
    assert len(summary.failures) == 5
    assert summary.policies["greedy"].seeds == (1, 3)
    assert summarise_run(folder) == summary


def test_an_earlier_versions_summary_is_computed_again(tmp_path: Path) -> None:
    """Of it only the episodes that broke are taken; one that does not tell them, or a job's, is refused."""
    folder = make_run(tmp_path)
    summary = compare(make_contest(make_system=lambda: Breaking(SCENARIO, lambda seed: seed == 2), players=toy_players()), folder)
    folder.summary.write_bytes(msgspec.json.encode({"schema": 1, "failures": summary.failures}))
    assert summarise_run(folder) == summary
    folder.summary.write_bytes(b'{"schema": 1, "fail')
    with pytest.raises(InvalidInput, match="does not say which episodes broke"):
        summarise_run(folder)
    (folder.path / "jobs.json").write_bytes(b"[]")
    with pytest.raises(InvalidInput, match="is a run of `drlctl fit`"):
        summarise_run(folder)


def test_a_broken_simulator_does_not_lose_the_live_run(tmp_path: Path) -> None:
    """Its failures are told as its own."""
    summary = compare(make_contest(make_simulator=lambda: Breaking(SCENARIO, lambda seed: seed == 1)), make_run(tmp_path))
    assert {failure.seed for failure in summary.failures} == {1}
    assert all(failure.error.startswith("in the simulator: ") for failure in summary.failures)
    assert summary.policies["learned"].requests == 180


def test_a_simulated_run_says_that_it_is_one(tmp_path: Path) -> None:
    """Modelled figures are not passed off as live ones."""
    contest = make_contest(players=toy_players(), system_kind="simulated", make_simulator=None, knowledge=Knowledge())
    summary = compare(contest, make_run(tmp_path))
    assert summary.system == "simulated"
    assert verdict(summary).caveats[0].startswith("SIMULATED")


def test_a_run_without_a_simulator(tmp_path: Path) -> None:
    """There is no figure of disagreement then."""
    folder = make_run(tmp_path)
    assert compare(make_contest(make_simulator=None, knowledge=Knowledge()), folder).sim_to_live is None
    assert not folder.simulated.exists()


def test_a_run_where_everything_broke_says_why(tmp_path: Path) -> None:
    """No summary of nothing."""
    contest = make_contest(make_system=lambda: Breaking(SCENARIO, lambda seed: True), players=toy_players(), make_simulator=None)
    with pytest.raises(InvalidInput, match="the edge node died"):
        compare(contest, make_run(tmp_path))
