"""Files that are either the old or the new one, never torn; and where drlctl keeps its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write through a temporary file, fsync and rename: readers see the old content or the new, whole.

    Raises OSError (disk full, permissions) with the old file intact and the temporary one removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def cache_dir() -> Path:
    """Where built models are kept: $DRLCTL_CACHE, else $XDG_CACHE_HOME/drlctl, else ~/.cache/drlctl."""
    explicit = os.environ.get("DRLCTL_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "drlctl"
