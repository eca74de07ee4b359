"""`sign`: one bit per element, and the mean magnitude of each bucket.

    C(p) = (||p||_1 / d) sign(p)

A contraction: ||C(p) - p||^2 = ||p||^2 - ||p||_1^2 / d.  It is biased, so it belongs behind error feedback.
Source: Karimireddy, Rebjock, Stich, Jaggi, "Error Feedback Fixes SignSGD", ICML 2019 (arXiv:1901.09847), algorithm 1 and
lemma 8; a scale for each block: Zheng, Huang, Kwok, NeurIPS 2019 (arXiv:1905.10936), section 3.2.
"""

from __future__ import annotations

import numpy as np

from runtime.codecs.header import AsIs
from runtime.codecs.interface import AS_IS, parameters_of
from runtime.errors import MalformedMessage
from runtime.training.compress.interface import Compressed, check_received, read_floats
from runtime.training.compress.packing import bucket_sums, num_buckets, pack, packed_bytes, spread, unpack


class Sign:
    """Signs with a scale for each bucket; 0 counts as positive.  Frames: scales, signs."""

    num_frames = 2

    def __init__(self, bucket_elements: int = 4096) -> None:
        if bucket_elements < 1:
            raise ValueError(f"a bucket has at least one element, got {bucket_elements}")
        self._bucket = bucket_elements

    def encode(self, vector: np.ndarray, rng: np.random.Generator) -> Compressed:
        """One bit per element and a float32 per bucket; draws nothing."""
        sums = bucket_sums(np.abs(vector), self._bucket)
        sizes = bucket_sums(np.ones(vector.size, dtype=np.float32), self._bucket)
        scales = (sums / sizes).astype(np.float32)
        return Compressed(header=AS_IS, frames=(scales.tobytes(), pack((vector < 0).view(np.uint8), 1)))

    def decode(self, compressed: Compressed, num_elements: int) -> np.ndarray:
        """Plus or minus the bucket's scale."""
        check_received(compressed, self.num_frames)
        parameters_of(compressed.header, AsIs)
        scales = read_floats(compressed.frames[0], num_buckets(num_elements, self._bucket))
        if (scales < 0).any():
            raise MalformedMessage("a scale of signs is negative")
        signs = np.float32(1) - np.float32(2) * unpack(compressed.frames[1], 1, num_elements)
        vector: np.ndarray = signs * spread(scales, self._bucket, num_elements)
        return vector

    def bytes_estimate(self, num_elements: int) -> int:
        """Exact."""
        return 4 * num_buckets(num_elements, self._bucket) + packed_bytes(num_elements, 1)
