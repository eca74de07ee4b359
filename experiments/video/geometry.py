"""What the knobs do to a picture, and where its answers belong.

The grid of cells is that of the whole frame at full resolution.  Regions are boxes of whole cells, and every scale divides
a cell's side, so a cell of a look is exactly a cell of the frame.
"""

from __future__ import annotations

import msgspec
import numpy as np
from PIL import Image

from experiments.video.knobs import SCALES
from runtime.errors import InvalidInput

CELL = 16
"""Pixels of a cell's side at full resolution: the stride of the full-resolution network."""


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """A box of cells."""

    top: int
    left: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if min(self.top, self.left) < 0 or min(self.rows, self.columns) < 1:
            raise ValueError(f"a region has at least one cell and none outside, got {self}")

    @property
    def cells(self) -> tuple[slice, slice]:
        """Its rows and columns of the grid."""
        return slice(self.top, self.top + self.rows), slice(self.left, self.left + self.columns)

    def size(self, scale: int) -> tuple[int, int]:
        """(height, width) in pixels at a scale."""
        return self.rows * CELL // scale, self.columns * CELL // scale


def whole(shape: tuple[int, int]) -> Region:
    """The region that is the whole grid [rows, columns]."""
    return Region(top=0, left=0, rows=shape[0], columns=shape[1])


def cut_out(frame: Image.Image, region: Region, scale: int) -> np.ndarray:
    """A region of an RGB frame as a network takes it, pixels averaged `scale` by `scale`: uint8 [1, 3, H, W].

    Raises InvalidInput for a scale that is none of the knob's.
    """
    if scale not in SCALES:
        raise InvalidInput(f"scale must be one of {SCALES}, got {scale}")
    left, top = region.left * CELL, region.top * CELL
    box = (left, top, left + region.columns * CELL, top + region.rows * CELL)
    return np.ascontiguousarray(np.asarray(frame.reduce(scale, box=box)).transpose(2, 0, 1)[None])


def place(cells: np.ndarray, region: Region, shape: tuple[int, int]) -> np.ndarray:
    """A region's answer [rows, columns] in the whole grid: cells outside are reported free, for nobody looked."""
    grid = np.zeros(shape, dtype=np.bool_)
    grid[region.cells] = cells
    return grid


def busy_region(occupied: np.ndarray, share: float) -> Region:
    """The smallest box that holds at least `share` of the occupied cells, bool [N, rows, columns]; of equals the topmost, leftmost.

    Raises InvalidInput for a share outside (0, 1], or when nothing ever moved.
    """
    counts = occupied.sum(axis=0, dtype=np.int64)
    if not 0 < share <= 1 or not counts.any():
        raise InvalidInput(f"a busy region needs cells that were occupied and a share in (0, 1], got {counts.sum()} and {share}")
    rows, columns = counts.shape
    sums = np.pad(counts.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    needed = share * sums[-1, -1]
    best = (rows * columns, 0, 0, rows, columns)
    for top in range(rows):
        for bottom in range(top + 1, rows + 1):
            band = sums[bottom] - sums[top]
            held = band[None, :] - band[:, None]  # [left, right]
            for left, right in np.argwhere(held >= needed):
                best = min(best, ((bottom - top) * (right - left), top, left, bottom - top, right - left))
    _, top, left, height, width = (int(value) for value in best)
    return Region(top=top, left=left, rows=height, columns=width)
