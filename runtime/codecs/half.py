"""`fp16`: float32 as IEEE 754 half precision, half the bytes."""

from __future__ import annotations

import numpy as np

from runtime.codecs.header import AsIs, TensorHeader
from runtime.codecs.interface import EncodedTensor, encode_as_is, parameters_of
from runtime.codecs.raw import Frame, num_elements, raw_bytes, read_raw
from runtime.messages import TensorSpec

HALF_MAX = 65504.0
"""Largest finite half.  Source: IEEE 754-2008, binary16."""


class Half:
    """Rounds float32 to the nearest half; other dtypes pass unchanged.

    Relative error at most 2^-11 from 2^-14 up to 65504, absolute error at most 2^-25 below; finite values beyond saturate
    at 65504, because one large activation must not turn into an infinity; infinities and NaN stay what they are.
    Source: IEEE 754-2008, binary16 (11 significant bits).
    """

    def encode(self, tensor: np.ndarray) -> EncodedTensor:
        """Two bytes per float32 element."""
        return encode_as_is(to_half(tensor) if tensor.dtype == np.float32 else tensor)

    def decode(self, header: TensorHeader, frame: Frame, spec: TensorSpec) -> np.ndarray:
        """Widen to float32."""
        parameters_of(header, AsIs)
        if spec.dtype != "float32":
            return read_raw(frame, spec)
        return read_raw(frame, TensorSpec(shape=spec.shape, dtype="float16")).astype(np.float32)

    def bytes_estimate(self, spec: TensorSpec) -> int:
        """Exact."""
        return 2 * num_elements(spec) if spec.dtype == "float32" else raw_bytes(spec)


def to_half(tensor: np.ndarray) -> np.ndarray:
    """Round float32 to float16, finite values saturating at +-65504."""
    with np.errstate(over="ignore"):
        half = tensor.astype(np.float16)
    overflowed = np.isinf(half)
    if overflowed.any():
        overflowed &= np.isfinite(tensor)
        half = np.where(overflowed, np.copysign(np.float16(HALF_MAX), half), half)
    return half
