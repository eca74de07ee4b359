"""Windows of accelerometer and gyroscope samples from the phones of many people, each with an activity.

An archive of `sXX/sXX_YY_sp.csv` (person XX, recording YY) with lines x_acc, y_acc, z_acc, x_gyro, y_gyro, z_gyro,
timestamp, label at about 100 samples a second.  Every person moves in an own way: a natural split for federated training.
Source: Matey-Sanz, Casteleyn, Granell, "Dataset of inertial measurements of smartphones and smartwatches for human activity
recognition", Data in Brief 51, 2023, 109809.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from runtime.errors import InvalidConfig, InvalidDataset
from runtime.models.examples import Examples
from runtime.training.data.archive import read_archive

CLASSES = ("SEATED", "SITTING_DOWN", "STANDING_UP", "TURNING", "WALKING")
COLUMNS = "x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label"
UNITS = np.array([9.80665] * 3 + [1.0] * 3, dtype=np.float32)
"""Accelerations are divided by standard gravity, turns stay rad/s: physical scales need no statistics of other people's data."""
_FILE = re.compile(r"(?:\./)?s(\d{2})/s\1_(\d{2})_sp\.csv")


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How recordings are cut into windows."""

    length: int = 128
    """Samples, at about 100 a second."""
    stride: int = 64
    """Samples from one window's start to the next's."""

    def __post_init__(self) -> None:
        if self.length < 1 or self.stride < 1:
            raise InvalidConfig(f"windows need a length and a stride of at least one sample, got {self.length} and {self.stride}")


class Sensors(msgspec.Struct, frozen=True, kw_only=True):
    """Windows of all recordings."""

    classes: tuple[str, ...]
    examples: Examples
    """images float32 [N, 1, 6, length] in multiples of gravity and rad/s; labels by the majority of a window's samples."""
    subjects: np.ndarray
    """int64 [N], the person's number."""
    recordings: np.ndarray
    """int64 [N], the recording's number: hold whole recordings out for a test, because neighbouring windows overlap."""


def load_sensors(path: str | Path, spec: WindowSpec | None = None) -> Sensors:
    """Every window of the archive, recordings in the order of persons and numbers.

    Raises InvalidDataset for an unreadable archive, one without recordings, and lines that are not what they should be.
    """
    spec = spec or WindowSpec()
    parts = []
    for match, data in sorted(read_archive(Path(path), _FILE), key=lambda each: each[0].groups()):
        windows, labels = cut_windows(*parse_recording(data, match[0]), spec)
        numbers = np.full((2, labels.size), [[int(match[1])], [int(match[2])]], dtype=np.int64)
        parts.append((windows, labels, *numbers))
    if not parts:
        raise InvalidDataset(f"{path} holds no recording sXX/sXX_YY_sp.csv")
    windows, labels, subjects, recordings = (np.concatenate(each) for each in zip(*parts, strict=True))
    if not labels.size:
        raise InvalidDataset(f"no recording in {path} fills a window of {spec.length} samples")
    return Sensors(classes=CLASSES, examples=Examples(images=windows, labels=labels), subjects=subjects, recordings=recordings)


def parse_recording(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(samples float32 [T, 6] in multiples of gravity and rad/s, labels int64 [T]); `name` is for messages."""
    try:
        header, *lines = data.decode("ascii").split()
        if header != COLUMNS or not lines:
            raise InvalidDataset(f"{name}: expected a line {COLUMNS} and samples below it")
        samples = np.loadtxt(lines, delimiter=",", usecols=range(6), dtype=np.float32, ndmin=2)
        labels = np.array([CLASSES.index(line.rpartition(",")[2]) for line in lines], dtype=np.int64)
    except InvalidDataset:
        raise
    except ValueError as exc:
        raise InvalidDataset(f"{name}: not a recording: {exc}") from exc
    if not np.isfinite(samples).all():
        raise InvalidDataset(f"{name} has samples that are not finite")
    return samples / UNITS, labels


def cut_windows(samples: np.ndarray, labels: np.ndarray, spec: WindowSpec) -> tuple[np.ndarray, np.ndarray]:
    """Samples [T, 6] and labels [T] -> windows float32 [N, 1, 6, length] and majority labels [N]; a rest is left out."""
    if len(labels) < spec.length:
        return np.empty((0, 1, 6, spec.length), dtype=np.float32), np.empty(0, dtype=np.int64)
    windows = sliding_window_view(samples, spec.length, axis=0)[:: spec.stride, None]
    inside = sliding_window_view(labels, spec.length)[:: spec.stride]
    votes = np.stack([np.count_nonzero(inside == label, axis=1) for label in range(len(CLASSES))], axis=1)
    return np.ascontiguousarray(windows), votes.argmax(axis=1)
