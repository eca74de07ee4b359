"""The application's networks: the golden one is taught by pseudo-labels of the first frames, the others by the golden one.

What the others are to agree with is the golden answer, so that is what they learn, as in distillation (Hinton, Vinyals,
Dean, arXiv:1503.02531, section 2, with hard targets); and the busy region is where the golden network sees something.
Needs the `train` extra.

Every crop of the teaching frames is moved by at most a cell, and every other one mirrored, so that a cell is seen with what
it holds in many places; its pseudo-labels are those of the moved masks.  One training per resolution, one model per look.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.video.geometry import CELL, Region, busy_region, cut_out, whole
from experiments.video.knobs import GOLDEN, Knobs, RegionName
from experiments.video.live import Application
from experiments.video.pseudo_labels import background, moving_pixels, occupied_cells
from runtime.errors import InvalidInput
from runtime.models.build import build_spec
from runtime.models.cells import FIT, answer_cells, cell_spec, train_cells
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
    weights = _teach_scales(frames, knobs, fit, seed, cache, say)
    golden = GOLDEN.look.scale
    seen = answer_cells(_at_scale(frames, golden), weights[golden], CELL // golden)
    grid = seen.shape[1:]
    regions: dict[RegionName, Region] = {"whole": whole(grid), "busy": busy_region(seen, BUSY_SHARE)}
    model_dirs = {}
    for number, look in enumerate(knobs.looks):
        say(f"building {look.name}", 0.5 + number / len(knobs.looks) / 2)
        size = regions[look.region].size(look.scale)
        model_dirs[look] = build_spec(cell_spec(look.name, weights[look.scale], CELL // look.scale, (3, *size)), cache)
    return Application(grid=grid, regions=regions, model_dirs=model_dirs)


def _teach_scales(frames: np.ndarray, knobs: Knobs, fit: FitSpec, seed: int, cache: Path | None, say: Progress) -> dict[int, Path]:
    """Weights for every scale: the golden one's first, then those that learn its answers."""
    moving = moving_pixels(frames, background(frames))
    if not occupied_cells(moving, CELL).any():
        raise InvalidInput("nothing moves in the teaching frames: there is nothing to learn from them")
    crops, labels = training_crops(frames, moving, COPIES, np.random.default_rng(seed))
    weights: dict[int, Path] = {}
    for number, scale in enumerate(sorted(knobs.scales)):
        phase, share = f"teaching at 1/{scale} of the resolution", 0.5 / len(knobs.scales)
        say(phase, number * share)
        pictures = _at_scale(crops, scale)
        weights[scale] = train_cells(pictures, labels, fit=fit, cache=cache, progress=_part(say, phase, number * share, share))
        if scale == GOLDEN.look.scale:
            labels = answer_cells(pictures, weights[scale], CELL // scale)
    return weights


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


def _at_scale(frames: np.ndarray, scale: int) -> np.ndarray:
    """Whole frames uint8 [N, H, W, 3] as a network takes them: uint8 [N, 3, H / scale, W / scale]"""
    region = whole((frames.shape[1] // CELL, frames.shape[2] // CELL))
    return np.concatenate([cut_out(Image.fromarray(frame), region, scale) for frame in frames])


def _part(progress: Progress, phase: str, start: float, share: float) -> Callable[[float], None]:
    return lambda done: progress(phase, start + done * share)


def _silent(phase: str, share: float) -> None:
    """Nobody listens."""
