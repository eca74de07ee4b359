"""How alike pictures are: normalised mean squared error and structural similarity.  Numpy only."""

from __future__ import annotations

import numpy as np

from runtime.errors import InvalidInput

WINDOW = 11
"""Pixels along a side of the Gaussian window, and its standard deviation; K1, K2 steady the quotients.

Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
IEEE Transactions on Image Processing 13(4), 2004, section III.C.
"""
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def nmse(originals: np.ndarray, guesses: np.ndarray, mean: np.ndarray) -> float:
    """Squared error of guesses [N, ...] over that of always guessing `mean` [...]: 0 perfect, 1 (0 dB) no better than the mean.

    Raises InvalidInput where shapes differ, or where every original is the mean.
    """
    _require_alike(originals, guesses)
    wrong = np.mean((originals.astype(np.float64) - guesses) ** 2)
    spread = np.mean((originals.astype(np.float64) - mean) ** 2)
    if spread <= 0:
        raise InvalidInput("every picture is the mean picture: there is nothing to reconstruct")
    return float(wrong / spread)


def ssim(originals: np.ndarray, guesses: np.ndarray, value_range: float = 1.0) -> float:
    """Mean structural similarity of pictures [N, C, H, W] with values in [0, value_range], 1 for equal ones.

        SSIM = (2 mx my + c1) (2 cov + c2) / ((mx^2 + my^2 + c1) (vx + vy + c2)),   c = (K * value_range)^2

    with means, variances and covariance under a Gaussian window, at every place where the window lies inside the picture.
    Raises InvalidInput where shapes differ or a side is shorter than the window.
    """
    _require_alike(originals, guesses)
    if originals.ndim != 4 or min(originals.shape[2:]) < WINDOW:
        raise InvalidInput(f"SSIM needs pictures [N, C, H, W] of at least {WINDOW} pixels a side, got {list(originals.shape)}")
    x, y = originals.astype(np.float64), guesses.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = (K1 * value_range) ** 2, (K2 * value_range) ** 2
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(alike / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))))


def gaussian_window() -> np.ndarray:
    """float64 [WINDOW], summing to 1; the two-dimensional window is its outer product with itself."""
    places = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(places**2) / (2 * SIGMA**2))
    window: np.ndarray = weights / weights.sum()
    return window


def _blurred(pictures: np.ndarray) -> np.ndarray:
    """[N, C, H, W] -> [N, C, H - WINDOW + 1, W - WINDOW + 1]"""
    window = gaussian_window()
    for axis in (2, 3):
        pictures = np.lib.stride_tricks.sliding_window_view(pictures, WINDOW, axis=axis) @ window
    return pictures


def _require_alike(originals: np.ndarray, guesses: np.ndarray) -> None:
    if originals.shape != guesses.shape or not len(originals):
        raise InvalidInput(f"pictures and guesses must be equally many and of one shape, got {originals.shape} and {guesses.shape}")
