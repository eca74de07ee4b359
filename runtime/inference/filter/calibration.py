"""What a difference threshold saves and misses on recorded streams, and the threshold that keeps a target.

A recorded stream (thumbnails, instants, and the model's answer to every frame) is played through the filter itself.
A *miss* is a skipped frame whose own answer differs from the one it was given.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidInput
from runtime.inference.bounds import binomial_upper
from runtime.inference.filter.stream import FilterConfig, StreamFilter

CANDIDATES = tuple(np.geomspace(0.25, 64.0, 33).tolist())
"""Thresholds in grey levels, four to each doubling."""


class RecordedStream(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of one camera in their order."""

    thumbnails: np.ndarray
    """float32 [N, R, C], values 0..255."""
    at_s: np.ndarray
    """float64 [N], rising."""
    answers: np.ndarray
    """int64 [N]: what the model answers to each frame."""

    def __post_init__(self) -> None:
        if not len(self.thumbnails) == len(self.at_s) == len(self.answers):
            raise InvalidInput(f"a stream has as many frames as instants and answers, got {len(self.thumbnails)} frames")


class FilterScore(msgspec.Struct, frozen=True, kw_only=True):
    """What one threshold did on recorded streams."""

    threshold: float
    num_frames: int
    num_skipped: int
    num_missed: int
    miss_upper: float
    """Upper confidence bound of `miss_fraction`."""

    @property
    def skip_fraction(self) -> float:
        """Share of all frames that the model did not see."""
        return self.num_skipped / self.num_frames if self.num_frames else 0.0

    @property
    def miss_fraction(self) -> float:
        """Share of all frames that were given a wrong answer by being skipped."""
        return self.num_missed / self.num_frames if self.num_frames else 0.0


def score(streams: Sequence[RecordedStream], config: FilterConfig, *, confidence: float = 0.95) -> FilterScore:
    """Play the streams, each through a filter of its own, answers arriving before the next frame."""
    counts = np.array([_play(stream, config) for stream in streams], dtype=np.int64).reshape(-1, 2).sum(axis=0)
    num_frames, (num_skipped, num_missed) = sum(len(stream.answers) for stream in streams), map(int, counts)
    return FilterScore(
        threshold=config.threshold,
        num_frames=num_frames,
        num_skipped=num_skipped,
        num_missed=num_missed,
        miss_upper=binomial_upper(num_missed, num_frames, confidence),
    )


def calibrate_threshold(
    streams: Sequence[RecordedStream],
    config: FilterConfig,
    target_miss_fraction: float,
    *,
    confidence: float = 0.95,
    candidates: Sequence[float] = CANDIDATES,
) -> FilterScore:
    """The highest threshold whose misses stay below the target share of all frames, with that confidence.

    Candidates are tried in rising order, and the first whose binomial bound breaks the target ends it, so trying many
    costs no confidence; where none keeps it the result's threshold is 0, which skips nothing.  The bound takes frames
    as independent, and neighbours are not: it is too short for few or long-remembering streams.
    Source: fixed-sequence testing, Maurer et al. 1995.
    """
    best = score(streams, msgspec.structs.replace(config, threshold=0.0), confidence=confidence)
    for threshold in sorted(candidates):
        tried = score(streams, msgspec.structs.replace(config, threshold=threshold), confidence=confidence)
        if tried.miss_upper > target_miss_fraction:
            break
        best = tried
    return best


def _play(stream: RecordedStream, config: FilterConfig) -> tuple[int, int]:
    """Frames skipped, and of them those with a wrong answer."""
    filter_: StreamFilter[int] = StreamFilter(config)
    num_skipped = num_missed = 0
    for small, at_s, answer in zip(stream.thumbnails, stream.at_s, stream.answers, strict=True):
        verdict = filter_.judge_thumbnail(small, float(at_s))
        if verdict.skip:
            num_skipped += 1
            num_missed += int(filter_.answer != answer)
        else:
            filter_.processed(verdict, int(answer))
    return num_skipped, num_missed
