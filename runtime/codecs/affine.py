"""`int8`: per-tensor affine quantisation to eight bits, a quarter of float32's bytes."""

from __future__ import annotations

import math

import numpy as np

from runtime.codecs.header import LEVELS, Affine, AsIs, TensorHeader
from runtime.codecs.interface import EncodedTensor, encode_as_is, parameters_of
from runtime.codecs.raw import Frame, dtype_of, num_elements, raw_bytes, read_raw
from runtime.errors import InvalidTensor, MalformedMessage
from runtime.messages import TensorSpec

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below it, float32 loses digits of the scale itself."""


class AffineInt8:
    """Quantises float32 and float16 to 256 levels between the tensor's extremes; other dtypes pass unchanged.

    Affine and not symmetric: activations behind a ReLU have one sign, and a symmetric scale would leave half of the levels
    unused.  The range always contains 0, and 0 is exact, so that what was sparse stays sparse.
    Error: half a step, (max - min) / 255 / 2.
    Source: Jacob et al., CVPR 2018 (arXiv:1712.05877), eq. 1 and section 3, "nudged" zero point.
    """

    def encode(self, tensor: np.ndarray) -> EncodedTensor:
        """One byte per element.  Raises InvalidTensor for infinities and NaN: they have no level."""
        if tensor.dtype.kind != "f":
            return encode_as_is(tensor)
        flat = tensor.reshape(-1)
        parameters = fit(flat)
        return EncodedTensor(header=TensorHeader(parameters=parameters), frame=to_levels(flat, parameters).data)

    def decode(self, header: TensorHeader, frame: Frame, spec: TensorSpec) -> np.ndarray:
        """The value in the middle of each level, in the spec's dtype."""
        dtype = dtype_of(spec)
        if dtype.kind != "f":
            parameters_of(header, AsIs)
            return read_raw(frame, spec)
        parameters = parameters_of(header, Affine)
        levels = read_raw(frame, TensorSpec(shape=(num_elements(spec),), dtype="uint8"))
        return from_levels(levels, parameters, dtype).reshape(spec.shape)

    def bytes_estimate(self, spec: TensorSpec) -> int:
        """Exact."""
        return num_elements(spec) if dtype_of(spec).kind == "f" else raw_bytes(spec)


def fit(flat: np.ndarray) -> Affine:
    """Scale and zero point for the extremes of floats [n] and 0.  Raises InvalidTensor when one is not finite."""
    low, high = float(flat.min(initial=0.0)), float(flat.max(initial=0.0))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidTensor("int8 cannot write infinities or NaN; use fp16 or identity, or look for what made them")
    scale = max((high - low) / LEVELS, SMALLEST_SCALE)
    return Affine(scale=scale, zero_point=round(-low / scale))


def to_levels(flat: np.ndarray, parameters: Affine) -> np.ndarray:
    """uint8 levels [n]: the nearest to each of floats [n]."""
    scaled: np.ndarray = np.divide(flat, np.float32(parameters.scale), dtype=np.float32)
    np.rint(scaled, out=scaled)
    scaled += np.float32(parameters.zero_point)
    np.clip(scaled, 0.0, float(LEVELS), out=scaled)
    return scaled.astype(np.uint8)


def from_levels(levels: np.ndarray, parameters: Affine, dtype: np.dtype[np.floating]) -> np.ndarray:
    """Values [n] of uint8 levels [n], saturating at the dtype's largest finite value.

    Raises MalformedMessage for a scale that no tensor of this dtype has.
    """
    limit = float(np.finfo(dtype).max)
    scale, zero_point = parameters.scale, parameters.zero_point
    if scale * LEVELS > 2.0 * limit * (1.0 + 1e-6):
        raise MalformedMessage(f"int8 scale {scale!r} is beyond what {dtype} tensors can have")
    if scale * max(zero_point, LEVELS - zero_point) >= limit:  # the outermost level lies up to half a step outside the tensor's range
        values = (levels.astype(np.float64) - zero_point) * scale
        return np.clip(values, -limit, limit).astype(dtype)
    values = levels.astype(np.float32)
    values -= np.float32(zero_point)
    values *= np.float32(scale)
    return values.astype(dtype, copy=False)
