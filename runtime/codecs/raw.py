"""Arrays as the bytes they are: specs, sizes, and views without a copy."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np

from runtime.errors import InvalidTensor, MalformedMessage
from runtime.messages import DType, TensorSpec

Frame = bytes | memoryview

_DTYPE_NAMES: dict[np.dtype[Any], DType] = {np.dtype(name): name for name in get_args(DType)}
_DTYPES: dict[str, np.dtype[Any]] = {name: dtype for dtype, name in _DTYPE_NAMES.items()}


def spec_of(tensor: np.ndarray) -> TensorSpec:
    """Shape and dtype of an array.  Raises InvalidTensor for a dtype that the wire does not carry."""
    name = _DTYPE_NAMES.get(tensor.dtype)
    if name is None:
        raise InvalidTensor(f"dtype {tensor.dtype} does not travel; use one of {', '.join(_DTYPE_NAMES.values())}")
    return TensorSpec(shape=tensor.shape, dtype=name)


def dtype_of(spec: TensorSpec) -> np.dtype[Any]:
    """A spec's dtype as numpy has it."""
    return _DTYPES[spec.dtype]


def num_elements(spec: TensorSpec) -> int:
    """Product of a spec's extents; 1 for a scalar."""
    return math.prod(spec.shape)


def raw_bytes(spec: TensorSpec) -> int:
    """Bytes of a tensor in memory."""
    return math.prod(spec.shape) * _DTYPES[spec.dtype].itemsize


def write_raw(tensor: np.ndarray) -> Frame:
    """A C-ordered array's memory as a frame, without a copy."""
    return tensor.reshape(-1).view(np.uint8).data if tensor.size else b""


def read_raw(frame: Frame, spec: TensorSpec) -> np.ndarray:
    """A frame as an array of that spec, a read-only view.  Raises MalformedMessage when the sizes differ."""
    dtype = _DTYPES[spec.dtype]
    expected = math.prod(spec.shape) * dtype.itemsize
    if len(frame) != expected:
        raise MalformedMessage(f"tensor {spec.dtype}{list(spec.shape)} needs {expected} bytes, got {len(frame)}")
    try:
        return np.frombuffer(frame, dtype).reshape(spec.shape)
    except ValueError as exc:  # an empty array whose other extents are beyond what numpy can count
        raise MalformedMessage(f"tensor {spec.dtype}{list(spec.shape)} cannot be: {exc}") from exc
