"""Reference times: what each stage and each head takes on this host, alone.  Emulated tiers are paced by them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from runtime.inference.engine import Engine

NUM_ROUNDS = 60
NUM_REPEATS = 5
"""Runs of one segment in a row, of which the first only warms the caches."""

Segment = tuple[str, int, int, int | None]


def measure_references(engine: Engine, image: np.ndarray) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Variant -> (seconds of each stage, seconds of each head): medians over interleaved rounds.

    Rounds visit all segments in turn, so that a busy spell of the host falls on all of them alike; within a round
    the fastest of a few runs in a row counts, which no other process interrupted.
    """
    manifest = engine.manifest
    segments: list[Segment] = []
    for variant in manifest.variants:
        segments += [(variant, stage, stage + 1, None) for stage in range(manifest.num_stages)]
        segments += [(variant, end, end, exit) for exit, end in enumerate(manifest.exit_ends)]
    inputs = {segment: _input(engine, segment, image) for segment in segments}
    rounds = [[_fastest_s(engine, segment, inputs[segment]) for segment in segments] for _ in range(NUM_ROUNDS)]
    seconds = dict(zip(segments, np.median(np.array(rounds), axis=0).tolist(), strict=True))
    return {
        variant: (
            tuple(seconds[variant, stage, stage + 1, None] for stage in range(manifest.num_stages)),
            tuple(seconds[variant, end, end, exit] for exit, end in enumerate(manifest.exit_ends)),
        )
        for variant in manifest.variants
    }


def _input(engine: Engine, segment: Segment, image: np.ndarray) -> Sequence[np.ndarray]:
    variant, start, _, _ = segment
    return engine.run(variant, 0, start, None, [image]) if start else [image]


def _fastest_s(engine: Engine, segment: Segment, tensors: Sequence[np.ndarray]) -> float:
    seconds = []
    for _ in range(NUM_REPEATS):
        started_at_s = time.perf_counter()
        engine.run(*segment, tensors)
        seconds.append(time.perf_counter() - started_at_s)
    return min(seconds[1:])
