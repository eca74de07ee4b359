"""How long this host takes to load the pieces of a model, and to store and read its files.

A session takes a fixed time and more for each of its stages.  One session of all S stages in place of S of one each saves the
fixed time S - 1 times:

    fixed = (sum of single stages - whole) / (S - 1)             stage = single stage - fixed, neither below 0
"""

from __future__ import annotations

import statistics
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from runtime.files import cache_dir
from runtime.inference.engine import Engine
from runtime.loading_profile import LoadingProfile, VariantLoading
from runtime.models.manifest import Manifest, load_manifest
from runtime.models.store import ArtifactStore

REPEATS = 5
"""Of each timing; the median counts."""
SMALL_BYTES, LARGE_BYTES = 1 << 12, 1 << 22


def measure_loading(model_dir: Path) -> LoadingProfile:
    """Time loading every variant of a model, and storing files.  Raises UnknownModel."""
    keep_s, keep_s_per_byte, read_s_per_byte = _measure_files()
    manifest = load_manifest(model_dir)
    return LoadingProfile(
        variants={variant: _measure_variant(model_dir, manifest, variant) for variant in manifest.variants},
        keep_s=keep_s,
        keep_s_per_byte=keep_s_per_byte,
        read_s_per_byte=read_s_per_byte,
    )


def split_load_s(single_s: list[float], whole_s: float) -> tuple[float, tuple[float, ...]]:
    """(fixed seconds of a session, seconds of each stage), of sessions of single stages and of one session of all of them."""
    spared = len(single_s) - 1
    fixed_s = min(max(0.0, (sum(single_s) - whole_s) / spared), *single_s) if spared else 0.0
    return fixed_s, tuple(each_s - fixed_s for each_s in single_s)


def _measure_variant(model_dir: Path, manifest: Manifest, variant: str) -> VariantLoading:
    info = manifest.variants[variant]
    timings = [_time_pieces(Engine(model_dir), variant) for _ in range(REPEATS)]
    cold_s, whole_s, *single_s = (statistics.median(column) for column in zip(*timings, strict=True))
    session_s, stage_s = split_load_s(single_s, whole_s)
    shared = info.weights is not None
    return VariantLoading(
        graph_bytes={name: segment.num_bytes for name, segment in info.segments.items()},
        weights_bytes=info.weights.num_bytes if info.weights is not None else 0,
        standalone=tuple(name for name, segment in info.segments.items() if not segment.weights) if shared else (),
        session_s=session_s,
        stage_s=stage_s,
        weights_s=max(0.0, cold_s - single_s[0]) if shared else 0.0,
    )


def _time_pieces(engine: Engine, variant: str) -> list[float]:
    """Seconds of loading the first stage together with the weights, then all stages as one, then each stage alone."""
    num_stages, last = engine.manifest.num_stages, len(engine.manifest.exit_ends) - 1
    stages = [(stage, stage + 1, last if stage + 1 == num_stages else None) for stage in range(num_stages)]

    def load_s(start: int, stop: int, exit: int | None) -> float:
        started_s = time.perf_counter()
        engine.load(variant, start, stop, exit)
        return time.perf_counter() - started_s

    cold_s = load_s(*stages[0])
    whole_s = load_s(0, num_stages, last) if num_stages > 1 else cold_s  # from here on weights stay in memory
    engine.unload(variant, *stages[0])
    return [cold_s, whole_s, *(load_s(*stage) for stage in stages)]


def _measure_files() -> tuple[float, float, float]:
    """(seconds of keeping a file, more for each of its bytes, seconds of reading one for each of its bytes), where fetched files go."""
    base = cache_dir()
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base) as folder:
        store = ArtifactStore(Path(folder), 2 * LARGE_BYTES)
        (small_s, _), (large_s, read_s) = (_median_times(store, bytes(size)) for size in (SMALL_BYTES, LARGE_BYTES))
    per_byte_s = max(0.0, large_s - small_s) / (LARGE_BYTES - SMALL_BYTES)
    return small_s, per_byte_s, read_s / LARGE_BYTES


def _median_times(store: ArtifactStore, data: bytes) -> tuple[float, float]:
    """Seconds of keeping and of reading these bytes."""
    name, times = sha256(data).hexdigest(), []
    for _ in range(REPEATS):
        started_s = time.perf_counter()
        store.keep(name, data)
        kept_s = time.perf_counter()
        store.read(name)
        times.append((kept_s - started_s, time.perf_counter() - kept_s))
    keep_s, read_s = (statistics.median(column) for column in zip(*times, strict=True))
    return keep_s, read_s
