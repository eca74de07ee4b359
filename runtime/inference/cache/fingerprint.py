"""What the cache knows an input by: an exact digest, and a sketch that similar inputs nearly share.

The sketch is one sign bit per random direction, so two inputs at angle a (of their pooled, centred values) differ
in a share a / pi of the bits on average.  Brightness and contrast of a whole input do not matter to it.  Where they
matter to the model no distance bound helps (digits-cnn answers 4 % of brightened scans differently): a calibration
stream must hold such changes if the real one will.
Source: Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002, section 3.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidInput, InvalidTensor
from runtime.inference.pictures import block_means
from runtime.messages import TensorSpec

DIGEST_BYTES = 32
SKETCH_BITS = 256
"""Bits of a sketch, where nobody says otherwise."""
MAX_BITS = 4096
MAX_SIDE = 16
"""Planes are pooled to this many cells a side: noise and shifts of a pixel average out, and projecting stays cheap."""


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """An input's digest, and its sketch where it has one."""

    digest: bytes
    sketch: bytes | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of both."""
        return len(self.digest) + len(self.sketch or b"")


class Sketcher:
    """Sketches inputs of one kind (a cut's tensors); the same seed gives the same sketches.

    Raises InvalidInput unless `num_bits` is a multiple of 64 in 64..MAX_BITS.
    """

    def __init__(self, specs: Sequence[TensorSpec], *, num_bits: int = SKETCH_BITS, seed: int = 0) -> None:
        if not 0 < num_bits <= MAX_BITS or num_bits % 64:
            raise InvalidInput(f"a sketch has a multiple of 64 bits, 64..{MAX_BITS}, got {num_bits}")
        self.num_bytes = num_bits // 8
        self._shapes = [spec.shape for spec in specs]
        num_values = sum(math.prod(_pooled_shape(shape)) for shape in self._shapes)
        self._directions = np.random.default_rng(seed).standard_normal((num_values, num_bits), dtype=np.float32)

    def sketch(self, tensors: Sequence[np.ndarray]) -> bytes | None:
        """Packed sign bits; None where an input has no direction (it is constant, empty or not finite).

        Raises InvalidTensor when the shapes are not those it was made for.
        """
        if [tensor.shape for tensor in tensors] != self._shapes:
            raise InvalidTensor(f"sketches are of shapes {self._shapes}, got {[tensor.shape for tensor in tensors]}")
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite and gets no sketch
            values = np.concatenate([_centred(tensor) for tensor in tensors]) if tensors else np.empty(0, dtype=np.float32)
        if not values.any() or not np.isfinite(values).all():
            return None
        return np.packbits(values @ self._directions > 0).tobytes()


def fingerprint(tensors: Sequence[np.ndarray], sketcher: Sketcher | None = None) -> Fingerprint:
    """Digest of the input, and with a sketcher its sketch."""
    return Fingerprint(digest=input_digest(tensors), sketch=sketcher.sketch(tensors) if sketcher else None)


def input_digest(tensors: Sequence[np.ndarray]) -> bytes:
    """BLAKE2b-256 over dtypes, shapes and values: equal inputs share it, different ones do not in practice."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for tensor in tensors:
        digest.update(f"{tensor.dtype.str}{tensor.shape};".encode())
        digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    return digest.digest()


def _pooled_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) < 2 else (*shape[:-2], *(min(extent, MAX_SIDE) for extent in shape[-2:]))


def _centred(tensor: np.ndarray) -> np.ndarray:
    """Pooled values less their mean, float32 [num_values]; exactly zero where the tensor is constant."""
    if tensor.size == 0:
        return np.empty(0, dtype=np.float32)
    pooled = tensor if tensor.ndim < 2 else block_means(tensor, MAX_SIDE, MAX_SIDE)
    values = pooled.reshape(-1).astype(np.float32)
    centred: np.ndarray = values - values.mean() if values.min() != values.max() else np.zeros_like(values)
    return centred
