"""CIFAR-10's binary batches: records of one label and 3 x 32 x 32 bytes, red plane first, no header.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the "binary version" of its data.
The version for Python is pickled and therefore not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.errors import InvalidDataset
from runtime.models.datasets.found import Found, check_size
from runtime.models.examples import Examples

SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
TRAIN_PATTERN, TEST_NAME, CLASSES_NAME = "data_batch_*.bin", "test_batch.bin", "batches.meta.txt"
NUM_CLASSES = 10
"""Where no file names them."""


def matches(path: Path) -> bool:
    """Whether there is a training batch."""
    return any(path.glob(TRAIN_PATTERN))


def load(path: Path) -> Found:
    """Part "train" from all batches in the order of their names, and "test" where it is there.  Raises InvalidDataset."""
    batches = sorted(path.glob(TRAIN_PATTERN))
    if not batches:
        raise InvalidDataset(f"{path} has no {TRAIN_PATTERN}")
    parts = {"train": _read(batches)}
    if (path / TEST_NAME).is_file():
        parts["test"] = _read([path / TEST_NAME])
    return Found(classes=_class_names(path / CLASSES_NAME), parts=parts)


def parse_records(data: bytes, name: object) -> Examples:
    """The records of one file; `name` is for messages.  Raises InvalidDataset for an incomplete record or none."""
    if not data or len(data) % RECORD_BYTES:
        raise InvalidDataset(f"{name}: {len(data)} bytes are not a whole number of records of {RECORD_BYTES}")
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)
    return Examples(images=records[:, 1:].reshape(-1, 1, *SHAPE).copy(), labels=records[:, 0].astype(np.int64))


def _read(files: Sequence[Path]) -> Examples:
    try:
        check_size(files[0].parent, sum(file.stat().st_size for file in files))
        batches = [parse_records(file.read_bytes(), file) for file in files]
    except OSError as exc:
        raise InvalidDataset(f"cannot read the batches in {files[0].parent}: {exc}") from exc
    images, labels = [batch.images for batch in batches], [batch.labels for batch in batches]
    return Examples(images=np.concatenate(images), labels=np.concatenate(labels))


def _class_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(str(number) for number in range(NUM_CLASSES))
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidDataset(f"cannot read the class names in {path}: {exc}") from exc
    return names
