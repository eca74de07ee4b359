"""The grid of reconstructions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from experiments.plots.privacy import reconstruction_grid
from experiments.plots.style import DARK, LIGHT, Theme


@pytest.mark.parametrize(("channels", "theme"), [(1, LIGHT), (3, DARK)])
def test_it_has_a_row_per_cut(channels: int, theme: Theme) -> None:
    """Grey and coloured; one row more makes the picture higher and no wider; the same data gives the same bytes."""
    originals = np.random.default_rng(0).random((3, channels, 8, 8))
    one = reconstruction_grid(originals, [("cut 1", originals)], theme)
    two = reconstruction_grid(originals, [("cut 1", originals), ("cut 2", originals)], theme)
    sizes = [Image.open(io.BytesIO(png)).size for png in (one, two)]
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] == pytest.approx(1.5 * sizes[0][1], abs=2)
    assert reconstruction_grid(originals, [("cut 1", originals)], theme) == one
