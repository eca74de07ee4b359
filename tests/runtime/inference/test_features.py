"""Numbers of a picture, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.inference.features import PICTURE_FEATURES, picture_features

HALVES = np.repeat([[0.0, 0.0, 255.0, 255.0]], 4, axis=0).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brightness", 127.5),
        ("contrast", 127.5),
        ("edge_density", 4 / 24),  # one edge in each of four rows; 12 neighbours across, 12 down
        ("entropy", 1.0),  # two equally full bins
        ("horizontal_asymmetry", 255.0),
        ("sharpness", 255.0),  # each of the four inner pixels has one neighbour 255 away
        ("vertical_asymmetry", 0.0),
    ],
)
def test_features_of_a_black_and_a_white_half(name: str, expected: float) -> None:
    """Four rows of 0 0 255 255."""
    assert PICTURE_FEATURES[name](HALVES) == pytest.approx(expected)


def test_a_constant_picture_has_only_brightness() -> None:
    """No contrast, edge, entropy or asymmetry."""
    numbers = dict(zip(PICTURE_FEATURES, picture_features(np.full((5, 7), 40.0, dtype=np.float32)), strict=True))
    assert numbers.pop("brightness") == 40.0
    assert set(numbers.values()) == {0.0}


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_features_are_finite_and_in_their_ranges(height: int, width: int, seed: int) -> None:
    """Also of the smallest pictures."""
    picture = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.float32)
    numbers = dict(zip(PICTURE_FEATURES, picture_features(picture), strict=True))
    assert np.isfinite(list(numbers.values())).all()
    assert 0 <= numbers["edge_density"] <= 1
    assert 0 <= numbers["entropy"] <= 5
    assert 0 <= numbers["contrast"] <= 127.5


def test_names_are_in_their_order() -> None:
    """A registry is sorted, and files rely on it."""
    assert list(PICTURE_FEATURES) == sorted(PICTURE_FEATURES)
