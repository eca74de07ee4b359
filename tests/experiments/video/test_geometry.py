"""Cut-outs and their answers: every look's cells are cells of the frame."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.video.geometry import CELL, Region, busy_region, cut_out, place, whole
from experiments.video.knobs import SCALES
from runtime.errors import InvalidInput


@st.composite
def grids_and_regions(draw: st.DrawFn) -> tuple[tuple[int, int], Region]:
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
    region = Region(top=top, left=left, rows=draw(st.integers(1, rows - top)), columns=draw(st.integers(1, columns - left)))
    return (rows, columns), region


@given(grids_and_regions(), st.sampled_from(SCALES), st.integers(0, 2**32 - 1))
def test_a_cut_out_is_the_mean_of_the_regions_pixels(shape_and_region: tuple[tuple[int, int], Region], scale: int, seed: int) -> None:
    """Of every scale x scale block of the region, rounded; its size is the region's at that scale."""
    (rows, columns), region = shape_and_region
    frame = np.random.default_rng(seed).integers(0, 256, (rows * CELL, columns * CELL, 3), dtype=np.uint8)
    picture = cut_out(Image.fromarray(frame), region, scale)
    height, width = region.size(scale)
    assert picture.shape == (1, 3, height, width)
    vertical, horizontal = (slice(part.start * CELL, part.stop * CELL) for part in region.cells)
    inside = frame[vertical, horizontal].reshape(height, scale, width, scale, 3).mean((1, 3))
    assert np.abs(picture[0].transpose(1, 2, 0) - inside).max() <= 0.5 + 1e-9


@given(grids_and_regions(), st.integers(0, 2**32 - 1))
def test_an_answer_lands_on_its_cells(shape_and_region: tuple[tuple[int, int], Region], seed: int) -> None:
    """Inside the region it is the answer, outside every cell is free."""
    shape, region = shape_and_region
    answer = np.random.default_rng(seed).random((region.rows, region.columns)) < 0.5
    placed = place(answer, region, shape)
    assert placed.shape == shape
    assert placed[region.cells].tolist() == answer.tolist()
    assert placed.sum() == answer.sum()


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.8, 1.0]))
def test_no_smaller_box_holds_as_much(rows: int, columns: int, seed: int, share: float) -> None:
    """The busy region holds its share, and every box that does has as many cells at least."""
    occupied = np.random.default_rng(seed).random((3, rows, columns)) < 0.4
    if not occupied.any():
        occupied[0, 0, 0] = True
    counts = occupied.sum(0)
    found = busy_region(occupied, share)
    assert counts[found.cells].sum() >= share * counts.sum()
    edges = itertools.product(itertools.combinations(range(rows + 1), 2), itertools.combinations(range(columns + 1), 2))
    sizes = [(b - t) * (r - x) for (t, b), (x, r) in edges if counts[t:b, x:r].sum() >= share * counts.sum()]
    assert found.rows * found.columns == min(sizes)


def test_impossible_regions_and_scales_are_refused() -> None:
    """Nothing that moved, a share of nothing, a scale that no cell is divided by, a box without cells."""
    with pytest.raises(InvalidInput, match="occupied"):
        busy_region(np.zeros((2, 3, 3), dtype=bool), 0.9)
    with pytest.raises(InvalidInput, match="share"):
        busy_region(np.ones((2, 3, 3), dtype=bool), 0.0)
    with pytest.raises(InvalidInput, match="scale"):
        cut_out(Image.new("RGB", (CELL, CELL)), whole((1, 1)), 3)
    with pytest.raises(ValueError, match="at least one cell"):
        Region(top=0, left=0, rows=0, columns=2)
