"""The frames of a fixed camera, from a folder of pictures."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.errors import InvalidDataset
from runtime.models.datasets.depth import eight_bits
from runtime.models.datasets.folder import FORMATS, SUFFIXES
from runtime.models.datasets.found import check_size

MIN_FRAMES = 16
"""Half of them teach, and a background is a median over those."""


def load_frames(folder: Path, cell: int) -> np.ndarray:
    """All pictures of a folder in the order of the numbers in their names -> uint8 [N, H, W, 3].

    Sides are cut to multiples of `cell` pixels, at the right and at the bottom.  Raises InvalidDataset when there are
    fewer than MIN_FRAMES, when they are not of one size, or for one that cannot be read.
    """
    files = sorted((file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES and file.is_file()), key=_order)
    if len(files) < MIN_FRAMES:
        raise InvalidDataset(f"{folder} has {len(files)} frames ({', '.join(sorted(SUFFIXES))}); at least {MIN_FRAMES} are needed")
    first = _read(files[0])
    check_size(folder, len(files) * first.nbytes)
    height, width = (side // cell * cell for side in first.shape[:2])
    if min(height, width) < 2 * cell:
        raise InvalidDataset(f"{files[0]} is {_size(first)}; at least two cells of {cell} pixels are needed each way")
    frames = np.empty((len(files), height, width, 3), dtype=np.uint8)
    for index, file in enumerate(files):
        picture = _read(file)
        if picture.shape != first.shape:
            raise InvalidDataset(f"{file} is {_size(picture)}, {files[0].name} is {_size(first)}; frames of one camera have one size")
        frames[index] = picture[:height, :width]
    return frames


def _order(file: Path) -> tuple[list[int], str]:
    """2.png before 10.png."""
    return [int(digits) for digits in re.findall(r"\d{1,18}", file.stem)], file.name


def _read(file: Path) -> np.ndarray:
    try:
        with Image.open(file, formats=FORMATS) as image:
            return np.asarray(eight_bits(image, image.format).convert("RGB"))
    except (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as exc:
        raise InvalidDataset(f"{file} is not a picture that can be read: {exc}") from exc


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
