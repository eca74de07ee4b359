"""How much a frame differs from another, on grey thumbnails float32 [R, C] of values 0..255.

Source: Kang et al., "NoScope: optimizing neural network queries over video at scale", VLDB 2017, section 5, whose
detectors compare with the mean squared error of whole frames or of blocks; mean absolute differences are kept in grey
levels here, so that one threshold reads the same for any picture.
"""

from __future__ import annotations

import numpy as np

from runtime.inference.pictures import block_means

NUM_BLOCKS = 8
"""A side: an eighth of the picture's width is about what one object of interest covers."""


def blocked(left: np.ndarray, right: np.ndarray) -> float:
    """The largest mean absolute difference of any block, grey levels: a small object counts in full."""
    return float(block_means(np.abs(left - right), NUM_BLOCKS, NUM_BLOCKS).max())


def mean(left: np.ndarray, right: np.ndarray) -> float:
    """The mean absolute difference of the whole frame, grey levels."""
    return float(np.abs(left - right).mean())
