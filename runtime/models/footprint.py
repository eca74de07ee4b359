"""Memory of a loaded variant, measured where nothing else is loaded: in a process of its own."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil

from runtime.inference.engine import Engine
from runtime.models.examples import load_examples


def loaded_bytes(directory: Path, variant: str) -> int:
    """Growth of a fresh process's resident set by loading every stage and head of a variant once and running it.

    A node holds more: each run of stages that a decision can give it is a session of its own.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, directory, variant).result()


def _measure(directory: Path, variant: str) -> int:
    image = load_examples(directory, "test").images[0]
    process = psutil.Process()
    before = process.memory_info().rss
    engine = Engine(directory)
    tensors = [image]
    exits = {end: exit for exit, end in enumerate(engine.manifest.exit_ends)}
    for stage in range(engine.manifest.num_stages):
        tensors = engine.run(variant, stage, stage + 1, None, tensors)
        if stage + 1 in exits:
            engine.run(variant, stage + 1, stage + 1, exits[stage + 1], tensors)
    return int(process.memory_info().rss - before)
