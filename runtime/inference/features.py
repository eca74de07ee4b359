"""Cheap numbers about a picture, from which difficulty and relevance are guessed.

All take a grey picture float32 [H, W] of values 0..255.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EDGE_STEP = 32.0
"""Grey levels between neighbours from which on they count as an edge: an eighth of the range, above sensor noise."""
NUM_BINS = 32
"""Of the grey histogram: 8 levels a bin, so that a 64x64 picture fills bins with dozens of pixels."""


def brightness(picture: np.ndarray) -> float:
    """Mean grey level."""
    return float(picture.mean())


def contrast(picture: np.ndarray) -> float:
    """Standard deviation of the grey levels.  Source: RMS contrast, Peli, J. Opt. Soc. Am. A 1990."""
    return float(picture.std())


def edge_density(picture: np.ndarray) -> float:
    """Share of horizontal and vertical neighbours that differ by an edge, 0..1; 0 for a single pixel."""
    down, across = np.abs(picture[1:] - picture[:-1]), np.abs(picture[:, 1:] - picture[:, :-1])
    num_edges = np.count_nonzero(down >= EDGE_STEP) + np.count_nonzero(across >= EDGE_STEP)
    return num_edges / (down.size + across.size) if down.size + across.size else 0.0


def entropy(picture: np.ndarray) -> float:
    """Shannon entropy of the grey histogram, bits: 0 for a constant picture, at most log2(NUM_BINS)."""
    bins = np.clip(picture * (NUM_BINS / 256.0), 0, NUM_BINS - 1).astype(np.uint8)
    counts = np.bincount(bins.reshape(-1), minlength=NUM_BINS)
    shares = counts[counts > 0] / picture.size
    return float(-(shares @ np.log2(shares)))


def horizontal_asymmetry(picture: np.ndarray) -> float:
    """Mean difference between the picture and its mirror image, grey levels."""
    return float(np.abs(picture - picture[:, ::-1]).mean())


def sharpness(picture: np.ndarray) -> float:
    """Mean size of the discrete Laplacian, grey levels; 0 below 3x3.  Source: after Pech-Pacheco et al., ICPR 2000."""
    if min(picture.shape) < 3:
        return 0.0
    inner = picture[1:-1, 1:-1]
    laplacian = picture[:-2, 1:-1] + picture[2:, 1:-1] + picture[1:-1, :-2] + picture[1:-1, 2:] - 4.0 * inner
    return float(np.abs(laplacian).mean())


def vertical_asymmetry(picture: np.ndarray) -> float:
    """Mean difference between the picture and itself upside down, grey levels."""
    return float(np.abs(picture - picture[::-1]).mean())


PICTURE_FEATURES: dict[str, Callable[[np.ndarray], float]] = {
    "brightness": brightness,
    "contrast": contrast,
    "edge_density": edge_density,
    "entropy": entropy,
    "horizontal_asymmetry": horizontal_asymmetry,
    "sharpness": sharpness,
    "vertical_asymmetry": vertical_asymmetry,
}
"""name -> number of a grey picture"""


def picture_features(picture: np.ndarray) -> np.ndarray:
    """All of them in the order of their names, float64 [F]."""
    return np.array([measure(picture) for measure in PICTURE_FEATURES.values()])
