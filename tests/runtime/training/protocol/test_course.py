"""The course of a job: when it begins, when it is over, and how much of it one message tells."""

from __future__ import annotations

import pytest

from runtime.codec import check_sizes, seal
from runtime.codecs.parcel import Parcel
from runtime.errors import InvalidInput
from runtime.messages import DataSpec, FitJob, RoundRecord, TauSpec
from runtime.training.places import NAMES_BYTES, assign_roles
from runtime.training.protocol.course import Course, that_fit
from tests.runtime.training.protocol.world import job


def record(number: int, names: tuple[str, ...] = ("a", "b"), accuracy: float | None = None) -> RoundRecord:
    """Of a round in which everybody took part."""
    return RoundRecord(
        round=number, tau=1, at_s=2.0 * number, clients=names, loss=1.0, accuracy=accuracy, compute_s=1.0, transfer_s=0.5, waiting_s=0.1
    )  # fmt: skip


def begun(given: FitJob) -> Course:
    """A course on which all have joined."""
    course = Course(given, (), 0.0)
    assert course.try_to_begin(("a", "b"), 2, 1, 0.0)
    return course


def test_it_begins_with_all_at_once_and_with_a_quorum_at_the_deadline() -> None:
    """And not before, nor twice."""
    course = Course(job(join_deadline_s=5.0), (), 10.0)
    assert not course.try_to_begin(("a",), 2, 1, 14.9)
    assert course.phase == "joining"
    assert course.try_to_begin(("a",), 2, 1, 15.0)
    assert not course.try_to_begin(("a", "b"), 2, 1, 15.1)
    assert begun(job()).phase == "training"


def test_without_a_quorum_it_fails_and_says_who_was_there() -> None:
    """At the deadline."""
    course = Course(job(join_deadline_s=5.0), (), 0.0)
    assert not course.try_to_begin(("a",), 3, 2, 5.0)
    assert (course.phase, course.message) == ("failed", "only a joined in time, 2 are needed")


def test_it_is_over_after_the_last_round_or_at_the_target_or_when_the_budget_is_spent() -> None:
    """Whichever comes first; and it stays so after a restart."""
    last, good = begun(job(rounds=2)), begun(job(rounds=9, target_accuracy=0.9))
    for number, expected in ((1, "training"), (2, "done")):
        last.add(record(number))
        assert last.phase == expected
    for accuracy, expected in ((0.89, "training"), (0.9, "done")):
        good.add(record(good.num_rounds + 1, accuracy=accuracy))
        assert good.phase == expected
    spent = begun(job(rounds=9))
    spent.add(record(1), finished=True)
    assert spent.phase == "done"
    assert Course(job(rounds=2), last.records, 0.0).phase == "done"
    assert Course(job(rounds=9), spent.records, 0.0, finished=True).phase == "done"


def test_with_something_to_keep_it_is_done_once_that_is_on_disk() -> None:
    """Or cannot be, which is told; what is kept of earlier rounds ends nothing."""
    course = begun(job(rounds=2))
    course.add(record(1), then_kept=True)
    course.kept()
    assert (course.phase, course.is_over) == ("training", False)
    course.add(record(2), then_kept=True)
    assert (course.phase, course.is_over) == ("training", True)
    course.kept("disk full")
    assert (course.phase, course.message) == ("done", "not saved: disk full")


def test_failures_count_in_a_row() -> None:
    """One success and they count from the beginning."""
    course = begun(job(max_failed_rounds=2))
    assert course.try_again("nobody came")
    assert "round 1 failed" in course.message
    course.add(record(1))
    assert course.message == ""
    assert course.try_again("nobody came")
    assert not course.try_again("nobody came")
    assert (course.phase, course.message) == ("failed", "2 rounds failed in a row, the last one: nobody came")


def test_time_between_two_starts_is_left_out() -> None:
    """Two rounds took 4 s; started again at 100 s, 1 s later it has lasted 5 s."""
    assert Course(job(), (record(1), record(2)), 100.0).lasted_s(101.0) == 5.0


def test_a_tau_is_decided_only_where_the_job_listens_and_never_above_its_bound() -> None:
    """Nobody asked: what was."""
    for rule, expected in (("decided", 50), ("fixed", 3)):
        course = Course(job(tau=TauSpec(rule=rule, tau=3, max_tau=50)), (), 0.0)
        assert course.decided_tau(otherwise=3) == 3
        course.want_tau(70)
        assert course.decided_tau(otherwise=3) == expected


def test_evaluations_are_every_so_many_rounds_and_at_the_end() -> None:
    """Every round where a target is to be reached."""
    course, seen = begun(job(rounds=5, evaluate_every=2)), []
    for number in range(1, 6):
        seen.append(course.next_is_evaluated)
        course.add(record(number))
    assert seen == [False, True, False, True, True]
    assert begun(job(rounds=5, evaluate_every=2, target_accuracy=0.9)).next_is_evaluated


@pytest.mark.parametrize("num_clients", [1, 8, 300, 1500])
def test_reports_fit_into_a_header_and_together_tell_of_every_round(num_clients: int) -> None:
    """However many clients each record names."""
    names = tuple(f"device-{index}" for index in range(num_clients))
    course = begun(job(rounds=200))
    for number in range(1, 121):
        course.add(record(number, names))
    heard: list[int] = []
    while len(heard) < 120:
        report = course.report(7, max(heard, default=0), tau=1, joined=names)
        check_sizes(seal(report, Parcel()))
        assert report.round == 120
        assert report.records
        heard += [one.round for one in report.records]
    assert heard == list(range(1, 121))


def test_the_first_record_goes_in_any_case() -> None:
    """Without it, whoever asks would ask for ever."""
    assert that_fit((record(1), record(2)), 0) == (record(1),)
    assert that_fit((), 10) == ()


def test_more_names_than_a_message_holds_are_refused() -> None:
    """Before anything is started."""

    def of(num_clients: int) -> dict[str, str]:
        return {"cloud": "", **{f"device-{index:0100d}": "cloud" for index in range(num_clients)}}

    most = NAMES_BYTES // 108
    for num_clients, fits in ((most, True), (most + 1, False)):
        given = job(data=DataSpec(num_clients=num_clients))
        upstreams = of(num_clients)
        if fits:
            assert len(assign_roles(given, upstreams, dict.fromkeys(upstreams, "")))
        else:
            with pytest.raises(InvalidInput, match="use fewer clients"):
                assign_roles(given, upstreams, dict.fromkeys(upstreams, ""))
