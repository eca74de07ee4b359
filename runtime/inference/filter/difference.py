"""How much frames differ from others, on grey thumbnails float32 [..., R, C] of values 0..255: float32 [...].

Source: Kang et al., "NoScope: optimizing neural network queries over video at scale", VLDB 2017, section 5, whose
detectors compare with the mean squared error of whole frames or of blocks; mean absolute differences are kept in grey
levels here, so that one threshold reads the same for any picture.
"""

from __future__ import annotations

import numpy as np

from runtime.inference.pictures import block_means

NUM_BLOCKS = 8
"""A side: an eighth of the picture's width is about what one object of interest covers."""


def blocked(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The largest mean absolute difference of any block, grey levels: a small object counts in full."""
    levels: np.ndarray = block_means(np.abs(left - right), NUM_BLOCKS, NUM_BLOCKS).max(axis=(-2, -1))
    return levels


def mean(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The mean absolute difference of the whole frame, grey levels."""
    levels: np.ndarray = np.abs(left - right).mean(axis=(-2, -1))
    return levels
