"""A folder that is either the old or the new one, never a mixture."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from runtime.files import write_atomically

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_SUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def replace_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Make `path` a folder with exactly these files, replacing what stood there in one rename.

    Where the file system cannot exchange two folders, the old one is moved aside first, and put back if that fails.
    Raises OSError with the old folder intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        for name, data in files.items():
            write_atomically(staging / name, data)
        staging.chmod(0o755)  # mkdtemp makes it private; a daemon of another user must be able to read it
        if not path.exists():
            os.rename(staging, path)
        elif not _exchange(staging, path):
            _swap_in_two_steps(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _sync(path.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one system call, renameat2(2); False where kernel or file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(second))


def _swap_in_two_steps(staging: Path, path: Path) -> None:
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    os.rename(path, aside)
    try:
        os.rename(staging, path)
    except OSError:
        os.rename(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
