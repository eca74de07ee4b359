"""How long nodes look at inputs (for caches, filters, difficulty): here, times the slowdown, as a node's inspector emulates it.

The least of many looks counts, for the rest is the host's noise.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from runtime.codecs.parcel import pack
from runtime.errors import InvalidTensor
from runtime.inspector import look
from runtime.models.difficulty import can_tell, fit_difficulty
from runtime.models.manifest import load_manifest
from runtime.models.played import load_played, played_index
from runtime.profile import DifficultyProfile, write_levels
from runtime.protocol.events import Inspect

NUM_LOOKS = 200
SMALL_BYTES, LARGE_BYTES = 1 << 10, 1 << 18


def measure_lookup_s(images: np.ndarray, slowdown: float) -> float:
    """Seconds of digesting one of these raw inputs [N, ...] for a cache, on a node `slowdown` times as slow as this host."""
    return slowdown * _least_look_s(images, digest=True)


def measure_thumbnail_s(images: np.ndarray, side: int, slowdown: float) -> float:
    """The same of making one's thumbnail for a filter; 0 for inputs that are no pictures."""
    try:
        return slowdown * _least_look_s(images, thumbnail_side=side)
    except InvalidTensor:
        return 0.0


def measure_payload_lookup_s(slowdown: float) -> tuple[float, float]:
    """(seconds of digesting any payload, seconds for each byte of it): a line through a small one and a large one."""
    small_s, large_s = (
        slowdown * _least_look_s([np.zeros(size, dtype=np.uint8)] * NUM_LOOKS, digest=True) for size in (SMALL_BYTES, LARGE_BYTES)
    )
    per_byte_s = max(0.0, large_s - small_s) / (LARGE_BYTES - SMALL_BYTES)
    return max(0.0, small_s - per_byte_s * SMALL_BYTES), per_byte_s


def profile_difficulty(model_dir: Path, slowdown: float) -> DifficultyProfile | None:
    """Fit the model's difficulty predictor anew and note what it says of each example; None for a model of which it is not told."""
    if not can_tell(load_manifest(model_dir)):
        return None
    fitted = fit_difficulty(model_dir)
    return DifficultyProfile(
        targets=fitted.predictor.targets,
        predicted={split: write_levels(levels[:, played_index(levels.shape[1])]) for split, levels in fitted.levels.items()},
        look_s=slowdown * _least_look_s(load_played(model_dir, "test").images, difficulty=fitted.predictor),
    )


def _least_look_s(inputs: Iterable[np.ndarray], **wanted: Any) -> float:
    """Of an inspector's look at each input for what is wanted of it.  Raises InvalidInput."""
    seconds = []
    for job in (Inspect(request_id=0, parcel=pack([each]), **{"digest": False, **wanted}) for each in itertools.islice(inputs, NUM_LOOKS)):
        started_s = time.perf_counter()
        look(job)
        seconds.append(time.perf_counter() - started_s)
    return min(seconds)
