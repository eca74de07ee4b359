"""Misses by hand, and thresholds that keep their target."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.inference.filter import FilterConfig, RecordedStream, calibrate_threshold, score

CONFIG = FilterConfig(max_age_s=1e9)


def recorded(levels: list[float], answers: list[int]) -> RecordedStream:
    thumbnails = np.array(levels, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), dtype=np.float32)
    return RecordedStream(thumbnails=thumbnails, at_s=0.1 * np.arange(len(levels)), answers=np.array(answers, dtype=np.int64))


def test_misses_by_hand() -> None:
    """Threshold 5: frames 1, 2 and 4 are skipped, and frame 2's own answer is another; the change at frame 3 is seen."""
    stream = recorded([0, 3, 4, 9, 10], [1, 1, 2, 2, 2])
    result = score([stream], msgspec.structs.replace(CONFIG, threshold=5.0))
    assert (result.num_frames, result.num_skipped, result.num_missed) == (5, 3, 1)
    assert (result.skip_fraction, result.miss_fraction) == (0.6, 0.2)


def test_streams_do_not_mix() -> None:
    """Each begins with a frame of its own that runs."""
    stream = recorded([0, 0], [1, 1])
    result = score([stream, stream, stream], msgspec.structs.replace(CONFIG, threshold=5.0))
    assert (result.num_frames, result.num_skipped) == (6, 3)


def stream_of(seed: int, num: int) -> RecordedStream:
    """Noise of at most 2 levels, and jumps of 20 that change the answer."""
    rng = np.random.default_rng(seed)
    answers = np.cumsum(rng.random(num) < 0.1)
    return recorded((20.0 * answers + rng.uniform(0, 2, num)).tolist(), answers.tolist())


def test_the_highest_threshold_that_keeps_the_target_is_found() -> None:
    """Between the noise and the jumps nothing is missed: the result lies there, and holds on fresh streams."""
    best = calibrate_threshold([stream_of(seed, 100) for seed in range(5)], CONFIG, 0.02)
    assert 2 < best.threshold < 24
    fresh = score([stream_of(seed, 100) for seed in range(50, 60)], msgspec.structs.replace(CONFIG, threshold=best.threshold))
    assert fresh.miss_fraction <= 0.02
    assert fresh.skip_fraction > 0.8


def test_without_evidence_nothing_is_skipped() -> None:
    """Twenty frames prove no two per cent, and no frames nothing at all."""
    assert calibrate_threshold([stream_of(0, 20)], CONFIG, 0.02).threshold == 0.0
    assert calibrate_threshold([], CONFIG, 0.5).threshold == 0.0


@given(st.integers(0, 40), st.floats(0.0, 0.5))
def test_the_target_is_kept_on_the_frames_it_was_found_on(seed: int, target: float) -> None:
    """With its bound, or nothing is skipped."""
    best = calibrate_threshold([stream_of(seed, 40)], CONFIG, target, candidates=(1.0, 4.0, 16.0, 64.0))
    assert best.miss_upper <= target or (best.threshold, best.num_skipped) == (0.0, 0)


def test_streams_with_missing_answers_are_refused() -> None:
    """As many answers as frames."""
    with pytest.raises(InvalidInput, match="as many frames"):
        recorded([1, 2, 3], [1, 2])
