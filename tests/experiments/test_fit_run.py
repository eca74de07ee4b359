"""What has become of a run's jobs: kept after each of them, and enough to go on with the others."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from experiments.fit_run import FitLedger, FitRun, LeftOut, run_lines
from experiments.runs import RunFolder
from runtime.errors import InvalidInput
from runtime.messages import FitJob, RoundRecord
from tests.experiments.fit_summaries import make_summary

FIRST, SECOND, THIRD = JOBS = tuple(FitJob(name=name) for name in ("first", "second", "third"))
RECORDS = tuple(
    RoundRecord(round=number, tau=10, at_s=float(number), clients=(), loss=1.0 / number, compute_s=1.0, transfer_s=0.0, waiting_s=0.0)
    for number in (1, 2)
)


def ledger(path: Path) -> FitLedger:
    """Of three jobs, as whoever opens the folder finds it."""
    return FitLedger(RunFolder(path), JOBS, ("a link",))


def names_of(folder: RunFolder) -> list[str]:
    """Whose each line of rounds.jsonl is."""
    return [msgspec.json.decode(line)["job"] for line in folder.rounds.read_bytes().splitlines()]


def test_who_opens_a_run_again_goes_on_with_what_is_not_settled(tmp_path: Path) -> None:
    """Neither what came to its end is played again nor what was left out, and the files say the same as the ledger."""
    before = ledger(tmp_path)
    assert before.run == FitRun(folder=str(tmp_path), emulated=("a link",), jobs=(), unplayed=("first", "second", "third"))
    before.add(FIRST, RECORDS)
    before.leave_out(SECOND, "no such cut")
    again = ledger(tmp_path)
    assert again.to_play == (THIRD,)
    assert again.run == before.run == msgspec.json.decode(RunFolder(tmp_path).summary.read_bytes(), type=FitRun)
    assert (again.run.left_out, again.run.unplayed) == ((LeftOut(name="second", reason="no such cut"),), ("third",))
    again.add(THIRD, RECORDS)
    assert ledger(tmp_path).to_play == ()
    assert names_of(RunFolder(tmp_path)) == ["first", "first", "third", "third"]


def test_what_is_left_out_first_stays_left_out(tmp_path: Path) -> None:
    """There is no round to keep yet."""
    ledger(tmp_path).leave_out(FIRST, "no such cut")
    assert ledger(tmp_path).to_play == (SECOND, THIRD)


def test_a_run_keeps_the_order_in_which_jobs_were_asked_for(tmp_path: Path) -> None:
    """Whichever of them came to its end first."""
    kept = ledger(tmp_path)
    kept.add(THIRD, RECORDS)
    kept.add(FIRST, RECORDS)
    assert [one.name for one in kept.run.jobs] == ["first", "third"]
    assert names_of(RunFolder(tmp_path)) == ["first", "first", "third", "third"]


def test_a_crash_between_the_two_files_settles_nothing_twice(tmp_path: Path) -> None:
    """Rounds are written first: a job that the summary does not know is asked again, and its lines are not doubled."""
    folder = RunFolder(tmp_path)
    ledger(tmp_path).add(FIRST, RECORDS)
    summary = folder.summary.read_bytes()
    ledger(tmp_path).add(SECOND, RECORDS)
    folder.summary.write_bytes(summary)
    again = ledger(tmp_path)
    assert again.to_play == (SECOND, THIRD)
    again.add(SECOND, RECORDS)
    assert names_of(folder) == ["first", "first", "second", "second"]
    folder.rounds.unlink()
    assert ledger(tmp_path).to_play == JOBS


@pytest.mark.parametrize(("name", "text"), [("summary.json", b"{"), ("summary.json", b"\xff"), ("rounds.jsonl", b"nothing\n")])
def test_a_corrupt_file_is_named(tmp_path: Path, name: str, text: bytes) -> None:
    """With what to do about it."""
    ledger(tmp_path).add(FIRST, RECORDS)
    (tmp_path / name).write_bytes(text)
    with pytest.raises(InvalidInput, match=r"summary\.json or rounds\.jsonl is corrupt.*remove both"):
        ledger(tmp_path)


def test_what_is_missing_in_the_table_is_said_below_it() -> None:
    """Each job that was left out with its reason, and who had no turn; a whole run has no such lines."""
    run = FitRun(folder="", emulated=("a link",), jobs=(make_summary(name="first"),))
    assert not any("left out" in line or "not played" in line for line in run_lines(run))
    partial = msgspec.structs.replace(run, left_out=(LeftOut(name="second", reason="no such cut"),), unplayed=("third", "fourth"))
    lines = run_lines(partial)
    assert lines[0] == "a link"
    assert lines[1].splitlines()[2].startswith("first")
    assert {"left out: second: no such cut", "not played to the end: third, fourth"} < set(lines)
