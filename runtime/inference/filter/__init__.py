"""Frames that need no inference: unchanged ones, and those without anything of interest."""

from __future__ import annotations

from runtime.inference.filter.calibration import FilterScore, RecordedStream, calibrate_threshold, score
from runtime.inference.filter.relevance import (
    RelevanceModel,
    calibrate_relevance,
    fit_relevance,
    load_relevance,
    relevance_features,
    save_relevance,
)
from runtime.inference.filter.stream import FilterConfig, StreamFilter, Verdict

__all__ = [
    "FilterConfig",
    "FilterScore",
    "RecordedStream",
    "RelevanceModel",
    "StreamFilter",
    "Verdict",
    "calibrate_relevance",
    "calibrate_threshold",
    "fit_relevance",
    "load_relevance",
    "relevance_features",
    "save_relevance",
    "score",
]
