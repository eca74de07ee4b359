"""Message + tensors <-> frames.  No sockets, no pickle.

    frame 0   magic b"drl1" + MessagePack of [message, tensor specs]
    frame 1+  the raw bytes of one tensor each, C order

Whatever a peer sends, decoding gives a valid message or one MalformedMessage; sizes are checked
before anything is allocated, and decoded tensors are read-only views of the received frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import numpy as np

from runtime.errors import InvalidTensor, MalformedMessage
from runtime.messages import WIRE_VERSION, DType, Message, TensorSpec

Frame = bytes | memoryview

MAX_FRAMES = 17
"""A header and at most 16 tensors: no cut of a known network family carries more."""
MAX_HEADER_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A batch-one activation of the largest ImageNet networks is below 13 MB; four times that leaves room."""

_MAGIC = b"drl%d" % WIRE_VERSION
_DTYPE_NAMES: dict[np.dtype[Any], DType] = {np.dtype(name): name for name in get_args(DType)}
_DTYPES: dict[str, np.dtype[Any]] = {name: dtype for dtype, name in _DTYPE_NAMES.items()}


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    message: Message
    tensors: tuple[TensorSpec, ...] = ()


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Envelope)


def to_frames(message: Message, tensors: Sequence[np.ndarray] = ()) -> list[Frame]:
    """Encode as [header, *tensors]; tensor i is array i in C order, its shape and dtype kept (0-d too)."""
    packed = [np.asarray(tensor, order="C") for tensor in tensors]
    envelope = _Envelope(message=message, tensors=tuple(spec_of(tensor) for tensor in packed))
    frames: list[Frame] = [_MAGIC + _ENCODER.encode(envelope)]
    frames.extend(tensor.reshape(-1).view(np.uint8).data if tensor.size else b"" for tensor in packed)
    return frames


def from_frames(frames: Sequence[Frame]) -> tuple[Message, list[np.ndarray]]:
    """Invert `to_frames`.  Raises MalformedMessage whatever the peer sent."""
    check_sizes(frames)
    header = bytes(frames[0])
    if header[: len(_MAGIC)] != _MAGIC:
        raise MalformedMessage(f"header starts with {header[:4]!r}, expected {_MAGIC!r}: not drlctl, or another wire version")
    try:
        envelope = _DECODER.decode(memoryview(header)[len(_MAGIC) :])
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as exc:  # bad UTF-8 is a plain ValueError
        raise MalformedMessage(f"header of {len(header)} bytes does not decode: {exc}") from exc
    if len(envelope.tensors) != len(frames) - 1:
        raise MalformedMessage(f"header announces {len(envelope.tensors)} tensors, {len(frames) - 1} frames follow")
    return envelope.message, [_tensor(spec, frame) for spec, frame in zip(envelope.tensors, frames[1:], strict=True)]


def check_sizes(frames: Sequence[Frame]) -> None:
    """Raise MalformedMessage when a message has too few or too many frames, or too many bytes."""
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise MalformedMessage(f"a message has 1..{MAX_FRAMES} frames, got {len(frames)}")
    if len(frames[0]) > MAX_HEADER_BYTES:
        raise MalformedMessage(f"a header has at most {MAX_HEADER_BYTES} bytes, got {len(frames[0])}")
    total = num_bytes(frames)
    if total > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"a message has at most {MAX_MESSAGE_BYTES} bytes, got {total}")


def num_bytes(frames: Sequence[Frame]) -> int:
    """Bytes of all frames together, as they cross a link."""
    return sum(len(frame) for frame in frames)


def spec_of(tensor: np.ndarray) -> TensorSpec:
    """Shape and dtype of an array.  Raises InvalidTensor for a dtype that the wire does not carry."""
    name = _DTYPE_NAMES.get(tensor.dtype)
    if name is None:
        raise InvalidTensor(f"dtype {tensor.dtype} does not travel; use one of {', '.join(_DTYPE_NAMES.values())}")
    return TensorSpec(shape=tensor.shape, dtype=name)


def _tensor(spec: TensorSpec, frame: Frame) -> np.ndarray:
    dtype = _DTYPES[spec.dtype]
    expected = math.prod(spec.shape) * dtype.itemsize
    if len(frame) != expected:
        raise MalformedMessage(f"tensor {spec.dtype}{list(spec.shape)} needs {expected} bytes, got {len(frame)}")
    return np.frombuffer(frame, dtype).reshape(spec.shape)
