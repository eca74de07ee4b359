"""Pictures beside what an attacker made of them at each cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.plots.style import Figure, Theme, rc_context, to_png

INCHES = 0.9
"""Of a picture's side."""


def reconstruction_grid(originals: np.ndarray, rows: Sequence[tuple[str, np.ndarray]], theme: Theme) -> bytes:
    """PNG of originals [N, C, H, W], and below them a labelled row of reconstructions for each cut; values in 0..1."""
    labelled = [("original", originals), *rows]
    num = len(originals)
    with rc_context(theme.rc()):
        figure = Figure(figsize=(2.2 + INCHES * num, INCHES * len(labelled)))
        grid = figure.subplots(len(labelled), num, squeeze=False)
        for line, (label, pictures) in zip(grid, labelled, strict=True):
            for axes, picture in zip(line, pictures[:num], strict=True):
                axes.imshow(_channels_last(picture), cmap="gray_r" if len(picture) == 1 else None, vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
                axes.spines[:].set_visible(False)
            line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        return to_png(figure)


def _channels_last(picture: np.ndarray) -> np.ndarray:
    """[C, H, W] as matplotlib wants it: [H, W] if grey, [H, W, 3] if coloured; of other pictures the first channel."""
    if len(picture) == 3:
        coloured: np.ndarray = picture.transpose(1, 2, 0)
        return coloured
    grey: np.ndarray = picture[0]
    return grey
