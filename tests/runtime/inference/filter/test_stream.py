"""The filter's verdicts, by hand, and that it never lets an answer grow old."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidTensor
from runtime.inference.filter import FilterConfig, RelevanceModel, StreamFilter, Verdict
from runtime.inference.filter.background import Background
from runtime.inference.filter.difference import blocked, mean
from runtime.inference.filter.relevance import RelevanceCard
from runtime.inference.logistic import Logistic


def frame(level: int) -> np.ndarray:
    return np.full((1, 1, 16, 16), level, dtype=np.uint8)


def run(filter_: StreamFilter[str], picture: np.ndarray, at_s: float, answer: str) -> Verdict:
    """Judge, and process what is not skipped."""
    verdict = filter_.judge(picture, at_s)
    if not verdict.skip:
        filter_.processed(verdict, answer)
    return verdict


def test_differences_by_hand() -> None:
    """One of 64 blocks off by 64: the mean is 1, the blocked difference 64; it does not matter which frame is first."""
    still = np.zeros((16, 16), dtype=np.float32)
    moved = still.copy()
    moved[4:6, 8:10] = 64.0
    assert (mean(still, moved), mean(moved, still)) == (1.0, 1.0)
    assert (blocked(still, moved), blocked(moved, still)) == (64.0, 64.0)


def test_verdicts_by_hand() -> None:
    """First, unchanged below 5 levels, changed at 5, and stale after a second; the age is the processed frame's."""
    filter_: StreamFilter[str] = StreamFilter(FilterConfig(threshold=5.0, max_age_s=1.0))
    steps = [(100, 0.0, "first"), (104, 0.4, "unchanged"), (105, 0.6, "changed"), (103, 1.5, "unchanged"), (105, 1.6, "stale")]
    for level, at_s, reason in steps:
        assert run(filter_, frame(level), at_s, str(level)).reason == reason
    assert filter_.answer == "105"


def test_slow_change_is_seen_in_the_end() -> None:
    """One level a frame stays below 5 to its neighbour, but not to the last processed frame: every fifth runs."""
    filter_: StreamFilter[str] = StreamFilter(FilterConfig(threshold=5.0, max_age_s=100.0))
    processed = [level for level in range(21) if not run(filter_, frame(level), level * 0.1, str(level)).skip]
    assert processed == [0, 5, 10, 15, 20]


def test_the_default_skips_nothing() -> None:
    """Not even an equal frame."""
    filter_: StreamFilter[str] = StreamFilter(FilterConfig())
    assert [run(filter_, frame(7), at_s, "a").skip for at_s in (0.0, 0.1, 0.2)] == [False] * 3


def test_frames_without_their_answer_yet_are_no_reference() -> None:
    """While the first is being computed the second runs too; and a late answer does not replace a newer one."""
    filter_: StreamFilter[str] = StreamFilter(FilterConfig(threshold=5.0))
    first, second = filter_.judge(frame(0), 0.0), filter_.judge(frame(0), 0.1)
    assert (first.reason, second.reason) == ("first", "first")
    filter_.processed(second, "second")
    filter_.processed(first, "first")
    assert filter_.answer == "second"


def test_another_frame_size_starts_anew() -> None:
    """Thumbnails of other shapes are not compared."""
    filter_: StreamFilter[str] = StreamFilter(FilterConfig(threshold=5.0))
    run(filter_, frame(0), 0.0, "a")
    assert filter_.judge(np.zeros((1, 1, 8, 8), dtype=np.uint8), 0.1).reason == "first"
    with pytest.raises(InvalidTensor):
        filter_.judge(np.zeros((8, 8), dtype=np.uint8), 0.2)


@given(st.lists(st.tuples(st.integers(0, 255), st.floats(0.0, 0.5)), max_size=40), st.floats(0, 300), st.floats(0.1, 2.0))
def test_skipped_frames_are_like_a_young_processed_one(steps: list[tuple[int, float]], threshold: float, max_age_s: float) -> None:
    """Whatever the stream: a skipped frame's answer is that of a frame closer than the threshold and not too old."""
    filter_: StreamFilter[tuple[int, float]] = StreamFilter(FilterConfig(threshold=threshold, max_age_s=max_age_s))
    at_s = 0.0
    for level, later_s in steps:
        at_s += later_s
        verdict = filter_.judge(frame(level), at_s)
        if verdict.skip:
            assert filter_.answer is not None
            assert abs(filter_.answer[0] - level) < threshold
            assert at_s - filter_.answer[1] < max_age_s
        else:
            filter_.processed(verdict, (level, at_s))


def only_change_matters(threshold: float) -> RelevanceModel:
    """P(relevant) rises with the share of changed cells."""
    weights = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 20.0])
    model = Logistic(mean=np.zeros(6), scale=np.ones(6), weights=weights, bias=-5.0)
    return RelevanceModel(card=RelevanceCard(threshold=threshold), model=model)


def test_frames_without_interest_are_dropped() -> None:
    """A background, then a bright half: the first change is irrelevant (two levels), the second is not."""
    filter_: StreamFilter[str] = StreamFilter(FilterConfig(threshold=1.0, max_age_s=9.0), only_change_matters(0.5))
    half = frame(100)
    half[..., :8] = 200
    for at_s in (0.0, 0.1, 0.2):
        run(filter_, frame(100), at_s, "nothing")
    assert [filter_.judge(picture, 0.3).reason for picture in (frame(102), half)] == ["irrelevant", "changed"]


def test_a_stale_reference_runs_whatever_relevance_says() -> None:
    """What the filter is blind to must not be missed for longer than the maximum age."""
    filter_: StreamFilter[str] = StreamFilter(FilterConfig(threshold=1.0, max_age_s=1.0), only_change_matters(1.0))
    run(filter_, frame(100), 0.0, "nothing")
    assert filter_.judge(frame(150), 0.5).reason == "irrelevant"
    assert filter_.judge(frame(150), 1.0).reason == "stale"


def test_background_is_the_mean_until_it_forgets() -> None:
    """The mean of the first twenty frames; from then on a new frame weighs a twentieth."""
    background = Background()
    for level in range(20):
        average = background.update(np.array([[float(level)]]))
    assert average == pytest.approx(np.array([[9.5]]))
    assert background.update(np.array([[109.5]])) == pytest.approx(np.array([[14.5]]))


@pytest.mark.parametrize("wrong", [{"threshold": -1.0}, {"max_age_s": 0.0}, {"side": 0}, {"threshold": float("nan")}, {"measure": "x"}])
def test_impossible_configurations_are_refused(wrong: dict[str, object]) -> None:
    """Also when they come from a file."""
    with pytest.raises(ValueError, match=r"a filter needs|Invalid enum"):
        msgspec.convert(wrong, FilterConfig)
