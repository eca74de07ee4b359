"""Data sets that come with a library, kept in the cache as they were divided.

The library takes seconds to import, and every node of a training job reads the same data.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
import zipfile
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from runtime.files import cache_dir, write_atomically
from runtime.models.datasets.found import PARTS
from runtime.models.examples import Examples
from runtime.models.fingerprints import code

BUILT_IN = ("digits",)
"""Each is a module of this package with CLASSES and `load_splits(seed)`."""
_SOURCES = ("splitting.py", "../examples.py")
_LIBRARIES = ("scikit-learn", "pillow", "numpy")

log = logging.getLogger(__name__)


def load_built_in(name: str, seed: int) -> tuple[tuple[str, ...], dict[str, Examples]]:
    """(classes, examples of "train", "validation" and "test") of one of `BUILT_IN`; the same seed gives the same splits.

    A cache that cannot be written costs the import every time, with a warning.
    """
    path = _path(name, seed)
    kept = _read(path)
    if kept is not None:
        return kept
    module = importlib.import_module(f"runtime.models.datasets.{name}")
    classes, splits = module.CLASSES, module.load_splits(seed)
    try:
        write_atomically(path, _packed(classes, splits))
    except OSError as exc:
        log.warning("%s is not kept: %s; it will be made again, which takes seconds", path, exc.strerror)
    return classes, splits


def _path(name: str, seed: int) -> Path:
    """Other code, another seed or another version of a library: another file."""
    digest, here = hashlib.sha256(), Path(__file__).parent
    for source in (f"{name}.py", *_SOURCES):
        digest.update(code((here / source).read_text(encoding="utf-8")).encode())
    digest.update(" ".join(map(version, _LIBRARIES)).encode())
    return cache_dir() / "datasets" / f"{name}-{seed}-{digest.hexdigest()[:16]}.npz"


def _packed(classes: tuple[str, ...], splits: dict[str, Examples]) -> bytes:
    file = io.BytesIO()
    arrays = {f"{kind}_{part}": getattr(splits[part], kind) for part in PARTS for kind in ("images", "labels")}
    np.savez(file, allow_pickle=False, classes=np.array(classes), **arrays)
    return file.getvalue()


def _read(path: Path) -> tuple[tuple[str, ...], dict[str, Examples]] | None:
    """None when it is not there, or not whole."""
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
            splits = {part: Examples(images=arrays[f"images_{part}"], labels=arrays[f"labels_{part}"]) for part in PARTS}
            return tuple(arrays["classes"].tolist()), splits
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        log.warning("%s is damaged and made again: %s", path, exc)
        return None
