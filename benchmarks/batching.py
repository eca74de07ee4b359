"""What batches gain: requests per second of n rows run together against one alone, ONNX Runtime on one thread.

All sizes run in turn, round by round, in one process.  What counts is the least processor time of the one thread
that computes: the wall clock would charge a busy host's interruptions to the longer batches.

`one` is the open segment on one row against the fixed one: what an open axis costs those who do not batch.
`fixed` is the share of a row's time that a batch pays once (`fixed_fraction`).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from safetensors.numpy import load_file

from runtime.inference.batching import fixed_fraction
from runtime.inference.engine import Engine
from runtime.models.batch_axis import BATCH
from runtime.models.build import ensure_model
from runtime.models.examples import load_examples
from runtime.models.manifest import segment_key

SIZES = (1, 2, 4, 8, 16)
ROUNDS, REPEATS = 60, 4
CASES = [(variant, *segment) for variant in ("fp32", "int8") for segment in ((0, 7, 2), (0, 3, 0), (3, 7, 2), (0, 3, None))]


def session(data: bytes, weights: dict[str, np.ndarray], fixed: bool) -> ort.InferenceSession:
    """One thread; with its batch axis closed again, or open."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_external_initializers(list(weights), [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()])
    if fixed:
        options.add_free_dimension_override_by_name(BATCH, 1)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def fastest_s(runner: ort.InferenceSession, tensor: np.ndarray) -> float:
    feed, times = {runner.get_inputs()[0].name: tensor}, []
    for _ in range(REPEATS):
        start_s = time.thread_time()
        runner.run(None, feed)
        times.append(time.thread_time() - start_s)
    return min(times)


def measure(directory: Path, engine: Engine, variant: str, start: int, stop: int, exit: int | None) -> tuple[float, list[float]]:
    """Least processor seconds of the fixed segment on one row, and of the open one on each number of rows."""
    info = engine.manifest.variants[variant]
    file = info.segments[segment_key(start, stop, exit)]
    data, arrays = (directory / file.path).read_bytes(), load_file(directory / info.weights.path)
    fixed, opened = (session(data, {name: arrays[name] for name in file.weights}, closed) for closed in (True, False))
    images = load_examples(directory, "test").images[: max(SIZES)]
    rows = [engine.run(variant, 0, start, None, [image])[0] if start else image for image in images]
    batches = [np.concatenate(rows[:size]) for size in SIZES]
    times = np.array([[fastest_s(fixed, batches[0]), *(fastest_s(opened, batch) for batch in batches)] for _ in range(ROUNDS)])
    alone_s, *together_s = times.min(axis=0).tolist()
    return alone_s, together_s


def main() -> None:
    directory = ensure_model("digits-cnn")
    engine = Engine(directory)
    print("Throughput of n rows together / one alone, ONNX Runtime, one thread")
    print(f"{'segment':<16}{'alone us':>10}{'one':>8}" + "".join(f"{f'n={size}':>8}" for size in SIZES[1:]) + f"{'fixed':>8}")
    for variant, start, stop, exit in CASES:
        alone_s, together_s = measure(directory, engine, variant, start, stop, exit)
        ratios = [alone_s * size / seconds for size, seconds in zip(SIZES, together_s, strict=True)]
        share = fixed_fraction(np.interp(range(1, max(SIZES) + 1), SIZES, together_s).tolist())
        label = f"{variant} {segment_key(start, stop, exit)}"
        print(f"{label:<16}{alone_s * 1e6:>10.0f}" + "".join(f"{ratio:>8.2f}" for ratio in ratios) + f"{share:>8.2f}")
