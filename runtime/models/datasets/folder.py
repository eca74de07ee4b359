"""A folder of pictures with a subfolder for each class, or one such folder for each part.

    flowers/rose/1.png  flowers/tulip/7.jpg ...            to be split
    flowers/train/rose/1.png ... flowers/test/rose/9.png   split already; `validation` (or `val`) and `test` are optional

Pictures must all be of one size, resizing is the user's choice; they are grey when all of them are, else RGB.
Of 16 bits a channel the high byte counts.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.errors import InvalidDataset
from runtime.models.datasets.depth import GREY, eight_bits
from runtime.models.datasets.found import Found, check_size
from runtime.models.examples import Examples

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "WEBP")
"""Pillow reads more, some through external programs."""
_PART_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}

Pictures = list[tuple[Path, int]]
"""Files and their labels."""


def matches(path: Path) -> bool:
    """Whether there are pictures in at least two subfolders, or a part `train` that has them."""
    base = path / "train" if (path / "train").is_dir() else path
    return len(_class_names(base)) > 1


def load(path: Path) -> Found:
    """Every part that is there; classes are the subfolders of the training part in sorted order.  Raises InvalidDataset."""
    folders = {part: path / name for name, part in _PART_NAMES.items() if (path / name).is_dir()}
    if "train" not in folders:
        folders = {"train": path}
    classes = _class_names(folders["train"])
    if len(classes) < 2:
        raise InvalidDataset(f"{folders['train']} has pictures in {len(classes)} subfolders; at least 2 classes are needed")
    listed = {part: _listing(folder, classes) for part, folder in folders.items()}
    size, num_channels = _survey([file for pictures in listed.values() for file, _ in pictures])
    return Found(classes=classes, parts={part: _read(pictures, size, num_channels) for part, pictures in listed.items()})


def _class_names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(child.name for child in folder.iterdir() if child.is_dir() and _pictures(child)))


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


def _listing(folder: Path, classes: Sequence[str]) -> Pictures:
    unknown = sorted(set(_class_names(folder)) - set(classes))
    if unknown:
        raise InvalidDataset(f"{folder} has classes {', '.join(unknown)} that the training part does not have")
    present = [(label, name) for label, name in enumerate(classes) if (folder / name).is_dir()]
    return [(file, label) for label, name in present for file in _pictures(folder / name)]


def _survey(files: Sequence[Path]) -> tuple[tuple[int, int], int]:
    """((width, height) of all, number of channels), from headers only."""
    sizes: dict[tuple[int, int], Path] = {}
    modes = set()
    for file in files:
        with _opened(file) as image:
            sizes.setdefault(image.size, file)
            modes.add(image.mode)
        if len(sizes) > 1:
            (first, one), (second, other) = sizes.items()
            raise InvalidDataset(f"{one} is {first[0]}x{first[1]} and {other} {second[0]}x{second[1]}; resize them to one size first")
    num_channels = 1 if modes <= GREY else 3
    (size,) = sizes
    check_size(files[0].parent.parent, len(files) * num_channels * size[0] * size[1])
    return size, num_channels


def _read(pictures: Pictures, size: tuple[int, int], num_channels: int) -> Examples:
    images = np.empty((len(pictures), 1, num_channels, size[1], size[0]), dtype=np.uint8)
    for index, (file, _) in enumerate(pictures):
        with _opened(file) as image:
            values = np.asarray(eight_bits(image, image.format).convert("L" if num_channels == 1 else "RGB"))
        images[index, 0] = values[None] if num_channels == 1 else values.transpose(2, 0, 1)
    return Examples(images=images, labels=np.array([label for _, label in pictures], dtype=np.int64))


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """A picture whose header is read; whatever is wrong with the file, then or when it is decoded, is one error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                yield image
    except (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise InvalidDataset(f"{file} is not a picture that can be read: {exc}") from exc
