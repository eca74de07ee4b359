"""Decides per frame of a stream whether the model must run, or what is known already will do.

    first       nothing to compare with                             process
    stale       the last processed frame is too old                 process
    unchanged   differs less than the threshold from the last
                processed frame: its answer is this one's too       skip
    irrelevant  the relevance model sees nothing of interest        skip
    changed     none of these                                       process

The comparison is with the last *processed* frame and not with the one before: slow change adds up until it is seen.
"""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

import msgspec
import numpy as np

from runtime.inference.filter import difference
from runtime.inference.filter.background import Background
from runtime.inference.filter.relevance import RelevanceModel, relevance_features
from runtime.inference.pictures import thumbnail

Reason = Literal["first", "stale", "unchanged", "irrelevant", "changed"]
MEASURES = {"blocked": difference.blocked, "mean": difference.mean}
"""name -> difference of two thumbnails"""

A = TypeVar("A")


class FilterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a frame may be skipped.  The default skips nothing."""

    threshold: float = 0.0
    """Grey levels: a frame that differs less is skipped; 0 skips none.  `calibrate_threshold` finds it."""
    max_age_s: float = 1.0
    """A processed frame serves no longer than this: whatever the filter does not see is missed no longer either."""
    measure: Literal["blocked", "mean"] = "blocked"
    side: int = 32
    """Cells of the thumbnails a side."""

    def __post_init__(self) -> None:
        if not (self.threshold >= 0.0 and self.max_age_s > 0.0 and 1 <= self.side <= 256):
            raise ValueError(
                f"a filter needs threshold >= 0, max_age_s > 0 and a side of 1..256, got {self.threshold}, {self.max_age_s}, {self.side}"
            )


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with one frame."""

    reason: Reason
    difference: float
    """Grey levels to the last processed frame; infinite without one."""
    thumbnail: np.ndarray
    at_s: float
    """When the frame was judged."""

    @property
    def skip(self) -> bool:
        """Whether the model need not run."""
        return self.reason in ("unchanged", "irrelevant")


class StreamFilter(Generic[A]):
    """One stream's filter: `judge` each frame in order, and tell it the `processed` ones' answers.

    After the verdict "unchanged", `answer` is the frame's answer.  Instants may be those of any monotonic clock.
    """

    def __init__(self, config: FilterConfig, relevance: RelevanceModel | None = None) -> None:
        self._config, self._relevance = config, relevance
        self._measure = MEASURES[config.measure]
        self._background = Background() if relevance else None
        self._reference: Verdict | None = None
        self._answer: A | None = None

    @property
    def answer(self) -> A | None:
        """The last processed frame's; None before the first."""
        return self._answer

    def judge(self, picture: np.ndarray, at_s: float) -> Verdict:
        """The verdict on a frame [..., C, H, W].  Raises InvalidTensor for what is no picture."""
        return self.judge_thumbnail(thumbnail(picture, self._config.side), at_s)

    def judge_thumbnail(self, small: np.ndarray, at_s: float) -> Verdict:
        """The same for a frame that is a thumbnail already."""
        features = self._relevance_features(small)
        reference = self._reference
        if reference is None or reference.thumbnail.shape != small.shape:
            return Verdict(reason="first", difference=float("inf"), thumbnail=small, at_s=at_s)
        differs = float(self._measure(small, reference.thumbnail))
        return Verdict(reason=self._reason(differs, at_s - reference.at_s, features), difference=differs, thumbnail=small, at_s=at_s)

    def processed(self, verdict: Verdict, answer: A) -> None:
        """The model's answer to a judged frame; ignored when a later frame's is known already."""
        if self._reference is None or verdict.at_s >= self._reference.at_s:
            self._reference, self._answer = verdict, answer

    def _reason(self, differs: float, age_s: float, features: np.ndarray | None) -> Reason:
        if age_s >= self._config.max_age_s:
            return "stale"
        if differs < self._config.threshold:
            return "unchanged"
        if self._relevance is not None and features is not None and self._relevance.is_irrelevant(features):
            return "irrelevant"
        return "changed"

    def _relevance_features(self, small: np.ndarray) -> np.ndarray | None:
        """Also teaches the background, so it must see every frame."""
        if self._background is None:
            return None
        background = self._background.update(small)
        return relevance_features(small, background)
