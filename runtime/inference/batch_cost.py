"""What batches cost here: the share of a run's time that a batch pays once, measured on this host."""

from __future__ import annotations

import time

import numpy as np

from runtime.inference.batching import BatchingConfig, fixed_fraction
from runtime.inference.engine import Engine
from runtime.inference.samples import sample

ROUNDS = 5


def fixed_fractions(engine: Engine, batching: BatchingConfig) -> dict[str, float]:
    """Variant -> `fixed_fraction`: as configured, else measured on the whole model; empty where no batches form."""
    variants = engine.manifest.variants
    if batching.max_batch == 1:
        return {}
    if batching.fixed_fraction is not None:
        return dict.fromkeys(variants, batching.fixed_fraction)
    return {variant: measure_fixed_fraction(engine, variant, batching.max_batch) for variant in variants}


def measure_fixed_fraction(engine: Engine, variant: str, max_batch: int) -> float:
    """The fit over batches of 1, 2, 4 ... `max_batch` random inputs through the whole model.

    All sizes in turn, round by round; of each the fastest counts, which no other process interrupted.
    """
    sizes = sorted({min(1 << power, max_batch) for power in range(max_batch.bit_length() + 1)})
    rng = np.random.default_rng(0)
    rows = [[sample(spec, rng) for spec in engine.manifest.variants[variant].cuts[0]] for _ in range(max_batch)]
    rounds = [[_batch_s(engine, variant, rows[:size]) for size in sizes] for _ in range(ROUNDS)]
    fastest_s = np.array(rounds[1:]).min(axis=0)  # the first only makes and warms the session
    return fixed_fraction(np.interp(np.arange(1, max_batch + 1), sizes, fastest_s).tolist())


def _batch_s(engine: Engine, variant: str, rows: list[list[np.ndarray]]) -> float:
    manifest = engine.manifest
    started_at_s = time.perf_counter()
    engine.run_batch(variant, 0, manifest.num_stages, len(manifest.exit_ends) - 1, rows)
    return time.perf_counter() - started_at_s
