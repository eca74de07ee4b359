"""The device's filter in N environments: frames that have not changed since the last answered one take its answer.

As runtime/inference/filter: each frame is held against the latest one to have been answered by its arrival without
having been skipped itself.  Which one that is depends on decisions, for frames come while others are being computed;
so verdicts fall when requests arrive, from thumbnails that were drawn ahead.

Simplified: an answer given to a frame of another class than its own is taken for a wrong one, as it is unless it was
wrong before.  What a relevance model calls irrelevant is not skipped.
"""

from __future__ import annotations

import msgspec
import numpy as np

from envs.simulation.episodes import Given, Playing
from envs.simulation.frames import Frames
from envs.simulation.rows import Requests, Row
from runtime.inference.filter.stream import MEASURES


class Skips(msgspec.Struct, frozen=True, kw_only=True):
    """Awaiting requests that need no decision."""

    skipped: np.ndarray
    """bool [N]"""
    sources: np.ndarray
    """int64 [n]: the entries whose answers they take."""
    wrong: np.ndarray
    """[n] 1.0 where that answer is wrong, or its probability."""

    def but(self, refused: np.ndarray) -> Skips:
        """Without those that are refused, bool [N]."""
        if not np.count_nonzero(refused & self.skipped):
            return self
        kept = ~refused[self.skipped]
        return Skips(skipped=self.skipped & ~refused, sources=self.sources[kept], wrong=self.wrong[kept])


class FrameFilter:
    """What N devices hold their streams' next frames against."""

    def __init__(self, frames: Frames, requests: Requests) -> None:
        self._frames, self._requests = frames, requests
        self._measure = MEASURES[frames.config.measure]

    def start(self, playing: Playing) -> None:
        """Streams begin anew."""
        self._playing = playing
        self._reference = np.full(self._requests.num_envs, -1)
        """Request index of the latest processed frame; -1 for none."""

    def processed(self, entries: np.ndarray) -> None:
        """These have been answered, and were not skipped."""
        np.maximum.at(self._reference, entries & self._requests.env_mask, self._requests.request(entries))

    def judge(self, index: int, given: np.ndarray) -> Skips:
        """The verdict on request `index` of every environment, on its arrival.  `given` as of Playing."""
        envs = (self._reference >= 0).nonzero()[0]
        sources = self._requests.entry(self._reference[envs], envs)
        age_s = given[Given.arrival_s][envs] - self._requests.table[Row.arrival_s][sources]
        fresh = age_s < self._frames.config.max_age_s
        envs, sources = envs[fresh], sources[fresh]
        rows = self._reference[envs]
        frames, references = self._playing.thumbnails(np.full(len(envs), index), envs), self._playing.thumbnails(rows, envs)
        unchanged = self._measure(frames, references) < self._frames.config.threshold
        envs, sources, rows = envs[unchanged], sources[unchanged], rows[unchanged]
        skipped = np.zeros(self._requests.num_envs, dtype=bool)
        skipped[envs] = True
        labels = self._frames.labels
        alike = labels[self._playing.examples(rows, envs)] == labels[given[Given.example][envs].astype(np.int64)]
        return Skips(skipped=skipped, sources=sources, wrong=np.where(alike, self._requests.wrong[sources], 1.0))
