"""Small synthetic changes of a picture, that make near-duplicates of real ones.

They are made up, not recorded: what a similar answer is worth on them says nothing of a real camera.
Pictures are uint8 [..., H, W], grey levels 0..255.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from runtime.errors import InvalidTensor

PerturbationName = Literal["none", "brightness", "noise", "shift"]

BRIGHTNESS_LEVELS = 10.0
"""The whole picture gets lighter or darker by at most this."""
NOISE_LEVELS = 4.0
"""Standard deviation of independent Gaussian noise on every pixel."""
SHIFT_PIXELS = 1
"""The whole picture moves by at most this in either direction; what comes in repeats the border."""


def unchanged(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture itself."""
    return picture


def brightness(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every pixel changed by the same amount."""
    return _levels(picture + rng.uniform(-BRIGHTNESS_LEVELS, BRIGHTNESS_LEVELS))


def noise(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every pixel changed for itself."""
    return _levels(picture + rng.normal(0.0, NOISE_LEVELS, picture.shape))


def shift(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture moved."""
    height, width = picture.shape[-2:]
    down, right = rng.integers(-SHIFT_PIXELS, SHIFT_PIXELS, size=2, endpoint=True)
    rows, columns = np.arange(height) - down, np.arange(width) - right
    return picture[..., rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]


PERTURBATIONS: dict[PerturbationName, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "brightness": brightness,
    "noise": noise,
    "none": unchanged,
    "shift": shift,
}
"""name -> perturbation"""


def perturb(name: PerturbationName, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture, changed as the name says, of the same shape.  Raises InvalidTensor unless it is uint8 [..., H, W]."""
    if picture.dtype != np.uint8 or picture.ndim < 2:
        raise InvalidTensor(f"perturbations are of uint8 pictures [..., H, W], got {picture.dtype}{list(picture.shape)}; use 'none'")
    return PERTURBATIONS[name](picture, rng)


def _levels(values: np.ndarray) -> np.ndarray:
    grey: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return grey
