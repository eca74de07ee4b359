"""The application's eyes on a real camera: 51 frames of a highway, in $DRLCTL_DATA/video/frames."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from experiments.video.agreement import f1, hold_last
from experiments.video.frames import load_frames
from experiments.video.geometry import CELL, busy_region
from experiments.video.pseudo_labels import background, moving_pixels, occupied_cells

FOLDER = Path(os.environ.get("DRLCTL_DATA", "")) / "video" / "frames"


@pytest.mark.skipif(not os.environ.get("DRLCTL_DATA") or not FOLDER.is_dir(), reason="needs $DRLCTL_DATA/video/frames, a recorded camera")
def test_traffic_moves_in_a_part_of_the_picture_and_from_frame_to_frame() -> None:
    """What the knobs live on: a box smaller than the frame holds nearly all motion, also later, and each skipped frame costs."""
    frames = load_frames(FOLDER, CELL)
    half = len(frames) // 2
    occupied = occupied_cells(moving_pixels(frames, background(frames[:half])), CELL)
    assert 0.01 < occupied.mean() < 0.2
    region = busy_region(occupied[:half], 0.95)
    assert region.rows * region.columns < 0.8 * occupied[0].size
    assert occupied[half:][:, *region.cells].sum() > 0.8 * occupied[half:].sum()
    kept = [
        f1(occupied, np.stack(hold_last([each if n % every == 0 else None for n, each in enumerate(occupied)], occupied[0])))
        for every in (1, 2, 3)
    ]
    assert kept[0] == 1.0
    assert kept == sorted(kept, reverse=True)
