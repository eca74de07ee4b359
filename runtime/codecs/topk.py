"""`topkD`: the D percent of elements that are largest in magnitude, and where they are."""

from __future__ import annotations

import numpy as np

from runtime.codecs.header import AsIs, Sparse, TensorHeader
from runtime.codecs.indices import bound_bytes, read_mask, write_mask
from runtime.codecs.interface import EncodedTensor, encode_as_is, parameters_of
from runtime.codecs.raw import Frame, dtype_of, num_elements, raw_bytes, read_raw
from runtime.errors import InvalidTensor, MalformedMessage
from runtime.messages import TensorSpec


class TopK:
    """Keeps k = ceil(density * n) elements of float32 and float16 exactly and makes the rest 0; other dtypes pass unchanged.

    Elements that are 0 anyway are not sent, so the frame of a tensor that a ReLU left sparser than the density is smaller
    still, and exact.  The frame holds the values in index order, then the indices.
    Source: Aji & Heafield, EMNLP 2017 (arXiv:1704.05021), section 3, applied to activations instead of gradients.
    """

    def __init__(self, density_percent: int) -> None:
        if not 1 <= density_percent <= 100:
            raise ValueError(f"density must be 1..100 percent, got {density_percent}")
        self._density_percent = density_percent

    def encode(self, tensor: np.ndarray) -> EncodedTensor:
        """Values and indices.  Raises InvalidTensor for infinities and NaN, which have no rank."""
        if tensor.dtype.kind != "f":
            return encode_as_is(tensor)
        flat = tensor.reshape(-1)
        mask = largest(flat, self._kept(flat.size))
        values = flat[mask]
        header = TensorHeader(parameters=Sparse(num_kept=values.size))
        return EncodedTensor(header=header, frame=values.tobytes() + write_mask(mask))

    def decode(self, header: TensorHeader, frame: Frame, spec: TensorSpec) -> np.ndarray:
        """Zeros, and the kept values where they were."""
        dtype = dtype_of(spec)
        if dtype.kind != "f":
            parameters_of(header, AsIs)
            return read_raw(frame, spec)
        size, num_kept = num_elements(spec), parameters_of(header, Sparse).num_kept
        if num_kept > self._kept(size):
            raise MalformedMessage(f"topk{self._density_percent} keeps at most {self._kept(size)} of {size} elements, got {num_kept}")
        end = num_kept * dtype.itemsize
        values = read_raw(frame[:end], TensorSpec(shape=(num_kept,), dtype=spec.dtype))
        dense = np.zeros(size, dtype=dtype)
        dense[read_mask(frame[end:], num_kept, size)] = values
        return dense.reshape(spec.shape)

    def bytes_estimate(self, spec: TensorSpec) -> int:
        """Upper bound, reached by dense tensors."""
        dtype, size = dtype_of(spec), num_elements(spec)
        if dtype.kind != "f":
            return raw_bytes(spec)
        return self._kept(size) * dtype.itemsize + bound_bytes(self._kept(size), size)

    def _kept(self, size: int) -> int:
        return -(-size * self._density_percent // 100)


def largest(flat: np.ndarray, k: int) -> np.ndarray:
    """bool [n]: the k elements of largest magnitude, of equal ones the first, without those that are 0.

    Raises InvalidTensor when an element is not finite.
    """
    magnitudes = np.abs(flat)
    if not magnitudes.size:
        return np.zeros(0, dtype=np.bool_)
    if not np.isfinite(magnitudes.max()):
        raise InvalidTensor("topk cannot rank infinities or NaN; use fp16 or identity, or look for what made them")
    smallest_kept = np.partition(magnitudes, magnitudes.size - k)[magnitudes.size - k]
    mask: np.ndarray = magnitudes > smallest_kept
    if smallest_kept > 0:
        ties = np.flatnonzero(magnitudes == smallest_kept)
        mask[ties[: k - np.count_nonzero(mask)]] = True
    return mask
