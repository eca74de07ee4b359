"""Seconds of what is done again and again, by hand."""

from __future__ import annotations

from runtime.durations import WARM_S, WARM_TIMES, Least, Smoothed


def test_the_least_is_kept_for_each_key() -> None:
    """What came later and took longer changes nothing."""
    least = Least()
    assert [least.add("a", seconds) for seconds in (3.0, 2.0, 5.0)] == [3.0, 2.0, 2.0]
    assert least.add("b", 4.0) == 4.0


def test_what_is_met_first_is_done_over() -> None:
    """Until it has been done often, or for long; and never again after that."""
    calls: list[float] = []

    def again(took_s: float) -> float:
        calls.append(took_s)
        return took_s

    least = Least()
    assert least.add("quick", 1.0, lambda: again(1e-6)) == 1e-6
    assert len(calls) == WARM_TIMES
    assert least.add("slow", 1.0, lambda: again(WARM_S)) == WARM_S
    assert least.add("slow", 2.0, lambda: again(0.0)) == WARM_S
    assert len(calls) == WARM_TIMES + 1


def test_a_smoothed_time_moves_a_fifth_of_the_way() -> None:
    """From the first one on."""
    smoothed = Smoothed()
    assert smoothed.expected_s("a", 7.0) == 7.0
    smoothed.add("a", 1.0)
    smoothed.add("a", 2.0)
    assert abs(smoothed.expected_s("a", 7.0) - 1.2) < 1e-12
