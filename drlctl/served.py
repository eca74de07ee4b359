"""A bundle served by a daemon of our own: started, waited for, and gone afterwards."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from runtime.launch import Process


@contextlib.contextmanager
def served_bundle(bundle: Path) -> Iterator[Process]:
    """Run `drlctl serve` on a bundle; `ready["address"]` says where.  It ends with the block, or with this process.

    Raises SystemFailure, with what the daemon said, when it does not start.
    """
    process = Process([sys.executable, "-m", "drlctl", "serve", str(bundle), "--exit-with-parent"], "controller daemon")
    try:
        yield process
    finally:
        process.stop()
