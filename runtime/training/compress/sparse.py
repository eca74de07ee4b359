"""Some elements only: the largest, or random ones.  Which they are is sent in runtime/codecs' index code.

The kept values go through an operator of their own, so quantised sparse updates need no code of theirs.
"""

from __future__ import annotations

import math

import numpy as np

from runtime.codecs.header import Sparse, TensorHeader
from runtime.codecs.indices import bound_bytes, read_mask, write_mask
from runtime.codecs.interface import AS_IS, parameters_of
from runtime.codecs.topk import largest
from runtime.errors import MalformedMessage
from runtime.training.compress.identity import Identity
from runtime.training.compress.interface import Compressed, Operator, check_finite, check_received


class _Sparsifier:
    """What both have in common: frames are the indices, then the values' frames."""

    def __init__(self, density: float, values: Operator | None = None) -> None:
        if not 0 < density <= 1:
            raise ValueError(f"a density lies in (0, 1], got {density}")
        self.density, self._values = density, values or Identity()
        self.num_frames = 1 + self._values.num_frames

    def num_kept(self, num_elements: int) -> int:
        """k = ceil(density n)."""
        return min(num_elements, math.ceil(self.density * num_elements))

    def decode(self, compressed: Compressed, num_elements: int) -> np.ndarray:
        """Zeros, and the kept values where they were."""
        check_received(compressed, self.num_frames)
        num_kept = parameters_of(compressed.header, Sparse).num_kept
        if num_kept > self.num_kept(num_elements):
            raise MalformedMessage(f"at most {self.num_kept(num_elements)} of {num_elements} elements are due, got {num_kept}")
        values = self._values.decode(Compressed(header=AS_IS, frames=compressed.frames[1:]), num_kept)
        dense = np.zeros(num_elements, dtype=np.float32)
        dense[read_mask(compressed.frames[0], num_kept, num_elements)] = values
        return dense

    def kept(self, compressed: Compressed, num_elements: int) -> np.ndarray:
        """bool [num_elements]: which elements were sent."""
        return read_mask(compressed.frames[0], parameters_of(compressed.header, Sparse).num_kept, num_elements)

    def bytes_estimate(self, num_elements: int) -> int:
        """Upper bound, reached by vectors without zeros."""
        kept = self.num_kept(num_elements)
        return bound_bytes(kept, num_elements) + self._values.bytes_estimate(kept)

    def _write(self, mask: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> Compressed:
        inner = self._values.encode(values, rng)
        header = TensorHeader(parameters=Sparse(num_kept=values.size))
        return Compressed(header=header, frames=(write_mask(mask), *inner.frames))


class TopK(_Sparsifier):
    """The k largest magnitudes; a contraction: ||C(v) - v||^2 <= (1 - k/n) ||v||^2.  Zeros are never sent.

    Source: Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", NeurIPS 2018 (arXiv:1809.07599), definition 2.1.
    """

    def encode(self, vector: np.ndarray, rng: np.random.Generator) -> Compressed:
        """Of equal magnitudes the first are kept."""
        mask = largest(vector, self.num_kept(vector.size))
        return self._write(mask, vector[mask], rng)


class RandomK(_Sparsifier):
    """k elements drawn without replacement, times n/k: unbiased, variance (n/k - 1) ||v||^2.

    The indices are sent and not the seed: numpy does not promise that its draws stay the same from version to version.
    Source: Stich et al. 2018 (see TopK), definition 2.1; Wangni et al., NeurIPS 2018 (arXiv:1710.09854), for the scaling.
    """

    def encode(self, vector: np.ndarray, rng: np.random.Generator) -> Compressed:
        """Raises InvalidTensor when scaling takes a value beyond float32."""
        kept = self.num_kept(vector.size)
        mask = np.zeros(vector.size, dtype=np.bool_)
        mask[rng.choice(vector.size, kept, replace=False, shuffle=False)] = True
        with np.errstate(over="ignore"):
            values = vector[mask] * np.float32(vector.size / max(kept, 1))
        check_finite(values)
        return self._write(mask, values, rng)
