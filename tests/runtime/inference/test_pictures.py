"""Grey and small pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidTensor
from runtime.inference.pictures import block_means, grey, thumbnail


def test_grey_weighs_the_colours() -> None:
    """One pixel by hand: 0.299 * 100 + 0.587 * 50 + 0.114 * 200 = 82.05."""
    picture = np.array([100, 50, 200], dtype=np.uint8).reshape(1, 3, 1, 1)
    assert grey(picture) == pytest.approx(np.array([[82.05]]))


def test_grey_of_one_channel_is_the_channel() -> None:
    """Nothing is weighed."""
    picture = np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3)
    np.testing.assert_array_equal(grey(picture), picture[0, 0])


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4), (2, 1, 4, 4), (1, 1, 0, 4)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    """Two pictures, two channels, none, or no pixels."""
    with pytest.raises(InvalidTensor, match="a picture is"):
        grey(np.zeros(shape, dtype=np.uint8))


def test_block_means_by_hand() -> None:
    """Five columns in two cells are two and three wide; 4x4 in 2x2 cells are four quarters."""
    np.testing.assert_allclose(block_means(np.array([[0, 2, 3, 6, 9]]), 1, 2), [[1, 6]])
    np.testing.assert_allclose(block_means(np.arange(16).reshape(4, 4), 2, 2), [[2.5, 4.5], [10.5, 12.5]])


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 24), st.integers(1, 24))
def test_cells_tile_the_plane(height: int, width: int, num_rows: int, num_columns: int) -> None:
    """Each cell is the plain mean of its pixels, and a grid finer than the plane gives the plane."""
    plane = np.random.default_rng(height * 31 + width).integers(0, 256, (height, width)).astype(np.uint8)
    means = block_means(plane, num_rows, num_columns)
    rows, columns = min(height, num_rows), min(width, num_columns)
    assert means.shape == (rows, columns)
    for row in range(rows):
        for column in range(columns):
            cell = plane[row * height // rows : (row + 1) * height // rows, column * width // columns : (column + 1) * width // columns]
            assert means[row, column] == pytest.approx(cell.mean(), rel=1e-5)


def test_thumbnail_is_small_and_grey() -> None:
    """A colour picture of 6x4 becomes 2x2."""
    assert thumbnail(np.full((1, 3, 6, 4), 7, dtype=np.uint8), 2) == pytest.approx(np.full((2, 2), 7.0))
