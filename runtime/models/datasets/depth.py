"""Pictures of more than eight bits a channel, brought to eight: Pillow would clip them at 255."""

from __future__ import annotations

import numpy as np
from PIL import Image

DEEP = frozenset({"I", "I;16", "I;16B", "I;16L"})
"""Pillow's modes of grey values of 16 bits, and of 32, in which it keeps 16 too."""
GREY = frozenset({"1", "L"}) | DEEP
"""Modes of pictures without colour."""
_WIDENED = frozenset({"PNG", "PPM"})
"""Formats whose values in mode I are of 16 bits.  Source: Pillow's handbook, "Image file formats"."""


def eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """The picture in a mode of eight bits: the high byte of 16.  `kind` is the file's format, as Pillow calls it.

    Raises ValueError for floats and for integers of 32 bits, whose range nobody tells.
    """
    if image.mode == "F" or (image.mode == "I" and kind not in _WIDENED):
        raise ValueError(f"its values are of mode {image.mode}, of no known range: save it with 8 or 16 bits a channel")
    if image.mode not in DEEP:
        return image
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
