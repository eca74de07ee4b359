"""Cheap views of a picture: grey, and small.  Pictures are [..., C, H, W] as models take them, uint8 or float32."""

from __future__ import annotations

import numpy as np

from runtime.errors import InvalidTensor

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue.  Source: ITU-R BT.601, section 2.5.1."""


def grey(picture: np.ndarray) -> np.ndarray:
    """One picture [..., C, H, W], C being 1 or 3 and leading axes of extent 1 -> float32 [H, W], same scale.

    Raises InvalidTensor for other shapes.
    """
    shape = picture.shape
    if len(shape) < 3 or any(extent != 1 for extent in shape[:-3]) or shape[-3] not in (1, 3) or 0 in shape:
        raise InvalidTensor(f"a picture is [1, C, H, W] or [C, H, W] with 1 or 3 channels, got {list(shape)}")
    planes = picture.reshape(shape[-3:])
    if len(planes) == 1:
        shades: np.ndarray = planes[0].astype(np.float32)
    else:
        shades = np.tensordot(LUMA, planes.astype(np.float32), axes=1)
    return shades


def block_means(planes: np.ndarray, num_rows: int, num_columns: int) -> np.ndarray:
    """Mean of each cell of a grid over the last two axes: [..., H, W] -> float32 [..., rows, columns].

    A grid finer than the plane is reduced to the plane itself; cells differ by at most one pixel a side.
    """
    *lead, height, width = planes.shape
    rows, columns = min(height, num_rows), min(width, num_columns)
    values = planes.astype(np.float32)
    if height % rows == 0 and width % columns == 0:  # half the time of the general way
        strips = values.reshape(*lead, rows, height // rows, width).sum(axis=-2)
        even: np.ndarray = strips.reshape(*lead, rows, columns, width // columns).mean(axis=-1) / np.float32(height // rows)
        return even
    row_edges, column_edges = np.arange(rows + 1) * height // rows, np.arange(columns + 1) * width // columns
    sums = np.add.reduceat(np.add.reduceat(values, row_edges[:-1], axis=-2), column_edges[:-1], axis=-1)
    means: np.ndarray = sums / np.outer(np.diff(row_edges), np.diff(column_edges)).astype(np.float32)
    return means


def thumbnail(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture's grey block means, float32 [at most side, at most side].  Raises InvalidTensor as `grey` does."""
    return block_means(grey(picture), side, side)
