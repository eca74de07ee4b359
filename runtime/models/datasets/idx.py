"""IDX files, compressed or not, under the names that MNIST gave them.

    bytes 0..1   zero
    byte  2      type of the values; 8 is unsigned byte, the only one read here
    byte  3      number of dimensions D
    4 D bytes    extents, big-endian unsigned
    the rest     values in C order

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats"; Fashion-MNIST
(Xiao, Rasul, Vollgraf, arXiv:1708.07747) and others keep to it.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from runtime.errors import InvalidDataset
from runtime.models.datasets.found import Found, check_size
from runtime.models.examples import Examples

UNSIGNED_BYTE = 8
MAX_DEFLATE_RATIO = 1032
"""Deflate cannot grow more than this.  Source: zlib manual, "Maximum Compression Factor" (1032:1)."""
_PREFIXES = {"train": "train", "test": "t10k"}


def matches(path: Path) -> bool:
    """Whether the training pictures are there."""
    return _find(path, "train-images", 3) is not None


def load(path: Path) -> Found:
    """Part "train", and "test" where there is one; classes are named by their numbers.  Raises InvalidDataset."""
    parts = {}
    for part, prefix in _PREFIXES.items():
        images, labels = _find(path, f"{prefix}-images", 3), _find(path, f"{prefix}-labels", 1)
        if images is not None and labels is not None:
            parts[part] = Examples(images=read_idx(images, 3)[:, None, None], labels=read_idx(labels, 1).astype(np.int64))
        elif images is not None or labels is not None:
            raise InvalidDataset(f"{path} has only one of {prefix}-images-idx3-ubyte and {prefix}-labels-idx1-ubyte; both are needed")
    if "train" not in parts:
        raise InvalidDataset(f"{path} has no train-images-idx3-ubyte")
    num_classes = int(max(part.labels.max(initial=0) for part in parts.values())) + 1
    return Found(classes=tuple(str(number) for number in range(num_classes)), parts=parts)


def read_idx(path: Path, num_dims: int) -> np.ndarray:
    """A file's values, uint8 with `num_dims` dimensions.  Raises InvalidDataset for anything but exactly such a file."""
    try:
        size = path.stat().st_size
        if path.suffix != ".gz":
            with path.open("rb") as file:
                return parse_idx(file, num_dims, path, size)
        with gzip.open(path, "rb") as packed:
            return parse_idx(cast(BinaryIO, packed), num_dims, path, size * MAX_DEFLATE_RATIO)
    except (OSError, EOFError, zlib.error) as exc:
        raise InvalidDataset(f"cannot read {path}: {exc}") from exc


def parse_idx(file: BinaryIO, num_dims: int, name: object, most_bytes: int) -> np.ndarray:
    """The values of an open file that can hold no more than `most_bytes`; `name` is for messages."""
    header = file.read(4 + 4 * num_dims)
    expected = bytes((0, 0, UNSIGNED_BYTE, num_dims))
    if header[:4] != expected or len(header) != 4 + 4 * num_dims:
        raise InvalidDataset(
            f"{name} is not an IDX file of {num_dims}-dimensional bytes: begins with {header[:4].hex()}, not {expected.hex()}"
        )
    shape = struct.unpack(f">{num_dims}I", header[4:])
    num_bytes = math.prod(shape)
    check_size(name, num_bytes)
    if num_bytes > most_bytes:
        raise InvalidDataset(f"{name}: the header claims {list(shape)}, more than the file can hold")
    data = file.read(num_bytes + 1)
    if len(data) != num_bytes:
        raise InvalidDataset(f"{name}: the header claims {list(shape)}, but {'fewer' if len(data) < num_bytes else 'more'} bytes follow")
    return np.frombuffer(data, np.uint8).reshape(shape).copy()


def _find(path: Path, stem: str, num_dims: int) -> Path | None:
    """The file, with either separator that is in use, packed or not."""
    names = [f"{stem}{separator}idx{num_dims}-ubyte{suffix}" for separator in "-." for suffix in ("", ".gz")]
    return next((path / name for name in names if (path / name).is_file()), None)
