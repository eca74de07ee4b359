"""Answers kept for inputs that come again."""

from __future__ import annotations

from runtime.inference.cache.calibration import DistancePoint, calibrate_distance, distance_curve
from runtime.inference.cache.counters import CacheCounters
from runtime.inference.cache.fingerprint import Fingerprint, Sketcher, fingerprint
from runtime.inference.cache.question import Question, acceptable, content_version, question_of
from runtime.inference.cache.results import CacheConfig, Hit, ResultCache

__all__ = [
    "CacheConfig",
    "CacheCounters",
    "DistancePoint",
    "Fingerprint",
    "Hit",
    "Question",
    "ResultCache",
    "Sketcher",
    "acceptable",
    "calibrate_distance",
    "content_version",
    "distance_curve",
    "fingerprint",
    "question_of",
]
