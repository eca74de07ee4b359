"""Pseudo-labels: what moves in front of a fixed camera, found without anybody's labels.  They are no ground truth.

A pixel moves when any of its channels is more than `LEVELS` from the median of the teaching frames, and so are most of
the 3x3 around it; a cell is occupied when at least `SHARE` of its pixels move.
Source of the median as background: Cucchiara et al., "Detecting Moving Objects, Ghosts, and Shadows in Video Streams",
IEEE TPAMI 2003, section 3.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from runtime.inference.pictures import block_means

LEVELS = 25
"""Grey levels: above the noise of an 8-bit camera with compression."""
SHARE = 0.1
"""Of a cell's pixels: a distant car covers a good tenth of 16x16."""


def background(frames: np.ndarray) -> np.ndarray:
    """Median over frames uint8 [N, H, W, 3] -> uint8 [H, W, 3]"""
    middle: np.ndarray = np.median(frames, axis=0).astype(np.uint8)
    return middle


def moving_pixels(frames: np.ndarray, still: np.ndarray) -> np.ndarray:
    """Frames uint8 [N, H, W, 3] and the background [H, W, 3] -> bool [N, H, W]"""
    far: np.ndarray = np.abs(frames.astype(np.int16) - still.astype(np.int16)).max(axis=-1) > LEVELS
    masks = (Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MedianFilter(3)) for mask in far)
    return np.stack([np.asarray(mask) > 0 for mask in masks])


def occupied_cells(moving: np.ndarray, cell: int) -> np.ndarray:
    """Masks bool [N, H, W] of whole cells -> bool [N, H / cell, W / cell]"""
    occupied: np.ndarray = block_means(moving, moving.shape[1] // cell, moving.shape[2] // cell) >= SHARE
    return occupied
