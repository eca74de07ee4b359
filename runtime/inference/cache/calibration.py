"""How often a similar input's answer is wrong, per distance bound, and the bound that keeps a promised error.

A sample stream (inputs in their order, and what the model answers to each) is played through a cache of unlimited
size for every bound.  As in the real one, only computed answers are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidInput
from runtime.inference.bounds import binomial_upper
from runtime.inference.cache.fingerprint import Fingerprint
from runtime.inference.cache.index import hamming

_FAR = np.iinfo(np.uint16).max
"""Stands for the distance between inputs of which one has no sketch."""


class DistancePoint(msgspec.Struct, frozen=True, kw_only=True):
    """What one distance bound gave on a sample stream."""

    max_distance: int
    num_lookups: int
    num_exact: int
    num_similar: int
    num_wrong: int
    """Similar hits whose answer is not what the model answers to the input itself."""

    @property
    def similar_fraction(self) -> float:
        """Share of look-ups that a similar input answered."""
        return self.num_similar / self.num_lookups if self.num_lookups else 0.0

    @property
    def error_fraction(self) -> float:
        """Share of the similar hits that were wrong; 0 without any."""
        return self.num_wrong / self.num_similar if self.num_similar else 0.0


def distance_curve(stream: Sequence[Fingerprint], answers: np.ndarray, bounds: Sequence[int]) -> tuple[DistancePoint, ...]:
    """One point per bound; `answers` int [N] are the model's own.  Takes N * N * 2 bytes.

    Raises InvalidInput when there are not as many answers as inputs.
    """
    if len(stream) != len(answers):
        raise InvalidInput(f"{len(stream)} inputs need as many answers, got {len(answers)}")
    distances = _pairwise(stream)
    return tuple(_play(stream, answers, distances, bound) for bound in bounds)


def calibrate_distance(curve: Sequence[DistancePoint], target_error_fraction: float, confidence: float = 0.95) -> int | None:
    """The largest bound whose similar hits err at most this often, with that confidence; None when none can be promised.

    Each bound's one-sided binomial limit must keep the target; trying several costs confidence, which is divided among
    them (Bonferroni).  The promise is for independent samples of the same kind of stream: where neighbours depend on
    each other, give it samples from many places and times.  Raises InvalidInput for a target outside [0, 1).
    """
    if not 0.0 <= target_error_fraction < 1.0:
        raise InvalidInput(f"a target error lies in [0, 1), got {target_error_fraction!r}")
    shared = 1.0 - (1.0 - confidence) / max(1, len(curve))
    kept = [point for point in curve if binomial_upper(point.num_wrong, point.num_similar, shared) <= target_error_fraction]
    return max((point.max_distance for point in kept), default=None)


def _pairwise(stream: Sequence[Fingerprint]) -> np.ndarray:
    """Bits between all sketches, uint16 [N, N]; _FAR where either has none."""
    distances = np.full((len(stream), len(stream)), _FAR, dtype=np.uint16)
    having = np.array([index for index, item in enumerate(stream) if item.sketch is not None], dtype=np.intp)
    if len(having):
        words = np.stack([np.frombuffer(stream[index].sketch or b"", dtype=np.uint64) for index in having], axis=1)
        for place, index in enumerate(having):
            distances[index, having] = hamming(words, words[:, place])
    return distances


def _play(stream: Sequence[Fingerprint], answers: np.ndarray, distances: np.ndarray, bound: int) -> DistancePoint:
    kept: list[int] = []
    digests: set[bytes] = set()
    num_exact = num_similar = num_wrong = 0
    for index, item in enumerate(stream):
        if item.digest in digests:
            num_exact += 1
            continue
        near = distances[index, kept]
        nearest = int(near.argmin()) if kept else 0
        if kept and near[nearest] <= min(bound, _FAR - 1):
            num_similar += 1
            num_wrong += int(answers[kept[nearest]] != answers[index])
        else:
            kept.append(index)
            digests.add(item.digest)
    return DistancePoint(max_distance=bound, num_lookups=len(stream), num_exact=num_exact, num_similar=num_similar, num_wrong=num_wrong)
