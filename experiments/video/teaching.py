"""The application's networks, taught by pseudo-labels of the first frames: one training per resolution, one model per look.

Needs the `train` extra.  Every crop of the teaching frames is moved by less than a cell, and every other one mirrored, so
that a cell is seen with what it holds in many places; its labels are those of the moved masks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.video.geometry import CELL, Region, busy_region, cut_out, whole
from experiments.video.knobs import Knobs, RegionName
from experiments.video.live import Application
from experiments.video.pseudo_labels import background, moving_pixels, occupied_cells
from runtime.models.build import build_spec
from runtime.models.cells import FIT, cell_spec, train_cells
from runtime.models.zoo import FitSpec

COPIES = 6
"""Crops made of each teaching frame."""
BUSY_SHARE = 0.95
"""Of the occupied cells: what the region of interest holds on the teaching frames."""

Progress = Callable[[str, float], None]


def teach(
    frames: np.ndarray, knobs: Knobs, *, fit: FitSpec = FIT, seed: int = 0, cache: Path | None = None, progress: Progress | None = None
) -> Application:
    """Networks for the camera of these teaching frames, uint8 [N, H, W, 3] of whole cells; taken from the cache if they are there.

    Raises InvalidInput when nothing moves in them, MissingExtra without the `train` extra.
    """
    say = progress or _silent
    moving = moving_pixels(frames, background(frames))
    occupied = occupied_cells(moving, CELL)
    rows, columns = occupied.shape[1:]
    regions: dict[RegionName, Region] = {"whole": whole((rows, columns)), "busy": busy_region(occupied, BUSY_SHARE)}
    crops, labels = training_crops(frames, moving, COPIES, np.random.default_rng(seed))
    weights = {}
    for number, scale in enumerate(knobs.scales):
        phase, share = f"teaching at 1/{scale} of the resolution", number / len(knobs.scales) / 2
        say(phase, share)
        smaller = np.concatenate([cut_out(Image.fromarray(crop), whole(labels.shape[1:]), scale) for crop in crops])
        weights[scale] = train_cells(smaller, labels, fit=fit, cache=cache, progress=_part(say, phase, share, 0.5 / len(knobs.scales)))
    model_dirs = {}
    for number, look in enumerate(knobs.looks):
        say(f"building {look.name}", 0.5 + number / len(knobs.looks) / 2)
        size = regions[look.region].size(look.scale)
        model_dirs[look] = build_spec(cell_spec(look.name, weights[look.scale], CELL // look.scale, (3, *size)), cache)
    return Application(grid=(rows, columns), regions=regions, model_dirs=model_dirs)


def training_crops(frames: np.ndarray, moving: np.ndarray, copies: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Moved and mirrored crops, one row and one column of cells smaller than the frames, and their cells.

    Frames uint8 [N, H, W, 3] and masks bool [N, H, W] -> (uint8 [N * copies, h, w, 3], bool [N * copies, rows, columns])
    """
    height, width = frames.shape[1] - CELL, frames.shape[2] - CELL
    crops, masks = [], []
    for frame, mask in zip(frames, moving, strict=True):
        for top, left in rng.integers(0, CELL + 1, (copies, 2)):
            turn = slice(None, None, -1 if rng.random() < 0.5 else 1)
            crops.append(frame[top : top + height, left : left + width][:, turn])
            masks.append(mask[top : top + height, left : left + width][:, turn])
    return np.stack(crops), occupied_cells(np.stack(masks), CELL)


def _part(progress: Progress, phase: str, start: float, share: float) -> Callable[[float], None]:
    return lambda done: progress(phase, start + done * share)


def _silent(phase: str, share: float) -> None:
    """Nobody listens."""
