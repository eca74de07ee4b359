"""Memory that a variant takes when it is loaded, measured in a process of its own.

    python -m runtime.models.loading DIRECTORY VARIANT        prints the bytes

A fresh process loads every segment of the variant, as an edge node does, and tells by how much its resident set grew.  What
ONNX Runtime sets up once per process is part of it; the libraries' code is not.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
from pathlib import Path

import psutil

from runtime.errors import DrlctlError, SystemFailure, UnknownModel
from runtime.inference.engine import Engine
from runtime.models.manifest import load_manifest

NUM_LOADS = 3
LONGEST_LOAD_S = 300.0


def loaded_bytes(directory: Path, variant: str) -> int:
    """Growth of a process's resident set when it loads all segments of a variant: the median of `NUM_LOADS` processes.

    Raises UnknownModel when there is no such model or variant, SystemFailure when a process fails or hangs.
    """
    manifest = load_manifest(directory)
    if variant not in manifest.variants:
        raise UnknownModel(f"variant {variant!r} of {manifest.model!r} does not exist; there is {sorted(manifest.variants)}")
    return int(statistics.median(_load_elsewhere(directory, variant) for _ in range(NUM_LOADS)))


def _load_elsewhere(directory: Path, variant: str) -> int:
    argv = [sys.executable, "-m", "runtime.models.loading", str(directory), variant]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=LONGEST_LOAD_S)
        return int(done.stdout)
    except subprocess.CalledProcessError as exc:
        raise SystemFailure(f"a process that loads {variant} of {directory} failed: {exc.stderr.strip()[-300:]}") from exc
    except (subprocess.TimeoutExpired, ValueError) as exc:
        raise SystemFailure(f"a process that loads {variant} of {directory} gave no figure: {exc}") from exc


def growth_bytes(directory: Path, variant: str) -> int:
    """By how much this process's resident set grows when it loads the variant now.  Raises UnknownModel."""
    engine, process = Engine(directory), psutil.Process()
    gc.collect()
    before_bytes = process.memory_info().rss
    engine.preload(variant=variant)
    gc.collect()
    return int(process.memory_info().rss - before_bytes)


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime.models.loading DIRECTORY VARIANT`."""
    parser = argparse.ArgumentParser(prog="python -m runtime.models.loading", description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("variant")
    arguments = parser.parse_args(argv)
    try:
        sys.stdout.write(f"{growth_bytes(arguments.directory, arguments.variant)}\n")
    except DrlctlError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return exc.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
