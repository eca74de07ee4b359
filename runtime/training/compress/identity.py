"""`identity`: the values as they are, four bytes each."""

from __future__ import annotations

import numpy as np

from runtime.codecs.header import AsIs
from runtime.codecs.interface import AS_IS, parameters_of
from runtime.codecs.raw import write_raw
from runtime.training.compress.interface import Compressed, check_received, read_floats


class Identity:
    """Every value exactly; the frame shares the vector's memory."""

    num_frames = 1

    def encode(self, vector: np.ndarray, rng: np.random.Generator) -> Compressed:
        """One frame; draws nothing."""
        return Compressed(header=AS_IS, frames=(write_raw(np.ascontiguousarray(vector)),))

    def decode(self, compressed: Compressed, num_elements: int) -> np.ndarray:
        """A read-only view of the frame."""
        check_received(compressed, self.num_frames)
        parameters_of(compressed.header, AsIs)
        return read_floats(compressed.frames[0], num_elements)

    def bytes_estimate(self, num_elements: int) -> int:
        """Exact."""
        return 4 * num_elements
