"""What moves in front of a still background."""

from __future__ import annotations

import numpy as np

from experiments.video.pseudo_labels import background, moving_pixels, occupied_cells
from tests.experiments.video.highway import draw_highway


def test_a_car_is_where_it_was_drawn() -> None:
    """Its cells are occupied, all others free; single flickering pixels are not motion."""
    frames, boxes = draw_highway(20, noise=4.0)
    flickering = frames.copy()
    flickering[3, 5, 70] = 255 - flickering[3, 5, 70]
    occupied = occupied_cells(moving_pixels(flickering, background(frames)), 16)
    for index, (top, left, height, width) in enumerate(boxes):
        expected = np.zeros(frames.shape[1:3], dtype=bool)
        expected[top : top + height, left : left + width] = True
        share = expected.reshape(frames.shape[1] // 16, 16, frames.shape[2] // 16, 16).mean((1, 3))
        assert (occupied[index] >= (share > 0.15)).all(), index  # corners are rounded by the median
        assert (occupied[index] <= (share > 0)).all(), index
