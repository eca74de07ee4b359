"""What a fixed camera sees when nothing happens: a running average of its thumbnails."""

from __future__ import annotations

import numpy as np

LEARNING_RATE = 0.05
"""Weight of a new frame once there were 1 / LEARNING_RATE of them; before, all frames weigh the same."""


class Background:
    """The average so far.  Source: running-average background subtraction, Piccardi, IEEE SMC 2004, section 2."""

    def __init__(self) -> None:
        self._mean: np.ndarray | None = None
        self._num_frames = 0

    def update(self, small: np.ndarray) -> np.ndarray:
        """Take a thumbnail in and give the average; a thumbnail of another shape starts anew."""
        if self._mean is None or self._mean.shape != small.shape:
            self._mean, self._num_frames = small.astype(np.float64), 0
        self._num_frames += 1
        self._mean = self._mean + max(LEARNING_RATE, 1.0 / self._num_frames) * (small - self._mean)
        return self._mean
