"""NMSE and SSIM: against the definitions written out, and their fixed points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.models.similarity import SIGMA, WINDOW, nmse, ssim


def pictures(seed: int, num: int = 2, channels: int = 1, side: int = 14) -> np.ndarray:
    return np.random.default_rng(seed).random((num, channels, side, side))


def ssim_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 13 of the paper at every place of one picture [H, W], with loops."""
    half = WINDOW // 2
    offsets = range(-half, half + 1)
    weights = np.array([[np.exp(-(i * i + j * j) / (2 * SIGMA**2)) for j in offsets] for i in offsets])
    weights /= weights.sum()
    values = []
    for row in range(half, x.shape[0] - half):
        for column in range(half, x.shape[1] - half):
            a, b = (picture[row - half : row + half + 1, column - half : column + half + 1] for picture in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = 0.01**2, 0.03**2
            values.append((2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return float(np.mean(values))


def test_ssim_equals_its_definition() -> None:
    """The separable form and the loops agree, on several pictures and channels."""
    x, y = pictures(0, num=2, channels=3), pictures(1, num=2, channels=3)
    expected = np.mean([ssim_by_hand(x[i, c], y[i, c]) for i in range(2) for c in range(3)])
    assert ssim(x, y) == pytest.approx(expected)


def test_constant_pictures_by_hand() -> None:
    """Without variance only the luminance term is left: (2 * 0.2 * 0.4 + 1e-4) / (0.04 + 0.16 + 1e-4)."""
    x = np.full((1, 1, 11, 11), 0.2)
    assert ssim(x, 2 * x) == pytest.approx((0.16 + 1e-4) / (0.2 + 1e-4))


@given(seed=st.integers(0, 99), value_range=st.sampled_from((1.0, 255.0)))
def test_ssim_is_symmetric_and_1_for_equal_pictures(seed: int, value_range: float) -> None:
    """Also in other units: the range scales with the values."""
    x, y = pictures(seed), pictures(seed + 1)
    assert ssim(x, x) == pytest.approx(1.0)
    assert ssim(x * value_range, y * value_range, value_range) == pytest.approx(ssim(y, x))
    assert ssim(x, y) < 1


def test_nmse_has_the_mean_picture_at_0_db() -> None:
    """0 for the pictures themselves, 1 for guessing their mean."""
    x = pictures(3, num=5)
    mean = x.mean(axis=0)
    assert nmse(x, x, mean) == 0.0
    assert nmse(x, np.broadcast_to(mean, x.shape), mean) == pytest.approx(1.0)


def test_nmse_by_hand() -> None:
    """Errors 1 and 2 squared are 5, spread about the mean 0 is 1 + 9."""
    assert nmse(np.array([[1.0], [3.0]]), np.array([[0.0], [1.0]]), np.array([0.0])) == pytest.approx(0.5)


def test_what_cannot_be_compared_is_refused() -> None:
    """Other shapes, no pictures, pictures smaller than the window, pictures that are all the same."""
    x = pictures(0)
    with pytest.raises(InvalidInput, match="one shape"):
        ssim(x, x[:1])
    with pytest.raises(InvalidInput, match="one shape"):
        nmse(x[:0], x[:0], x[0])
    with pytest.raises(InvalidInput, match="at least 11"):
        ssim(x[:, :, :10], x[:, :, :10])
    with pytest.raises(InvalidInput, match="nothing to reconstruct"):
        nmse(x[:1], x[:1], x[0])
