"""`qsgdB`: stochastic quantisation to B bits that is right on average.

    Q(v_i) = ||v||_2 sign(v_i) xi_i / s,   xi_i = floor(s |v_i| / ||v||_2 + u),  u uniform in [0, 1)

so E Q(v) = v.  s = 2^(B-1) - 1 levels besides 0 leave one bit for the sign; the norm is taken over buckets.
Source: Alistarh, Grubic, Li, Tomioka, Vojnovic, "QSGD", NeurIPS 2017 (arXiv:1610.02132), section 3.1 and, for buckets, section 4.
Levels are packed with a fixed width, not Elias-coded: at 2 to 8 bits it takes about as much and costs a fraction of the time.
"""

from __future__ import annotations

import numpy as np

from runtime.codecs.header import AsIs
from runtime.codecs.interface import AS_IS, parameters_of
from runtime.errors import InvalidTensor, MalformedMessage
from runtime.training.compress.interface import Compressed, check_received, read_floats
from runtime.training.compress.packing import bucket_sums, num_buckets, pack, packed_bytes, spread, unpack

_LARGEST = float(np.finfo(np.float32).max)


class Qsgd:
    """Unbiased; variance at most min(d / s^2, sqrt(d) / s) ||v||^2 in buckets of d elements.  Frames: norms, levels."""

    num_frames = 2

    def __init__(self, bits: int, bucket_elements: int = 512) -> None:
        if bits not in (2, 4, 8) or bucket_elements < 1:
            raise ValueError(f"qsgd has 2, 4 or 8 bits and buckets of at least one element, got {bits} and {bucket_elements}")
        self._bits, self._bucket, self._num_levels = bits, bucket_elements, 2 ** (bits - 1) - 1

    def encode(self, vector: np.ndarray, rng: np.random.Generator) -> Compressed:
        """B bits per element and a float32 per bucket.  Raises InvalidTensor where a norm is beyond float32."""
        norms = np.sqrt(bucket_sums(np.square(vector, dtype=np.float64), self._bucket))
        if norms.max(initial=0.0) > _LARGEST:
            raise InvalidTensor(f"an update's norm {norms.max():.3g} is beyond float32; clip the gradients")
        scales = norms.astype(np.float32)
        inverse = np.divide(self._num_levels, scales.astype(np.float64), out=np.zeros(scales.size), where=scales > 0)
        scaled = (np.abs(vector) * spread(inverse, self._bucket, vector.size)).astype(np.float32)
        scaled += rng.random(vector.size, dtype=np.float32)
        levels = np.minimum(scaled.astype(np.int16), self._num_levels)
        signed = np.where(np.signbit(vector), -levels, levels) + self._num_levels
        return Compressed(header=AS_IS, frames=(scales.tobytes(), pack(signed.astype(np.uint8), self._bits)))

    def decode(self, compressed: Compressed, num_elements: int) -> np.ndarray:
        """Norm times level over s, at most the norm in magnitude."""
        check_received(compressed, self.num_frames)
        parameters_of(compressed.header, AsIs)
        scales = read_floats(compressed.frames[0], num_buckets(num_elements, self._bucket))
        levels = unpack(compressed.frames[1], self._bits, num_elements)
        if (scales < 0).any() or levels.max(initial=0) > 2 * self._num_levels:
            raise MalformedMessage(f"qsgd{self._bits} norms are >= 0 and levels at most {2 * self._num_levels}; these are not")
        fractions = (levels.astype(np.float32) - np.float32(self._num_levels)) / np.float32(self._num_levels)
        vector: np.ndarray = fractions * spread(scales, self._bucket, num_elements)
        return vector

    def bytes_estimate(self, num_elements: int) -> int:
        """Exact."""
        return 4 * num_buckets(num_elements, self._bucket) + packed_bytes(num_elements, self._bits)
