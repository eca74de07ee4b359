"""Small data sets written to disk, in each form that is read."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def idx_bytes(values: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_idx(path: Path, prefix: str, images: np.ndarray, labels: np.ndarray, *, packed: bool = False) -> None:
    """Pictures [N, H, W] and labels [N] under MNIST's names."""
    for name, values in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
        data = idx_bytes(values)
        if packed:
            (path / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (path / name).write_bytes(data)


def write_cifar(file: Path, images: np.ndarray, labels: Sequence[int]) -> None:
    """Pictures [N, 3, 32, 32] as records."""
    file.write_bytes(b"".join(bytes((label,)) + image.tobytes() for image, label in zip(images, labels, strict=True)))


def write_picture(file: Path, values: np.ndarray) -> None:
    """A grey picture [H, W] or a coloured one [H, W, 3]; the suffix says in which format."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(file)
