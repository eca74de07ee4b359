"""Message + tensors <-> frames.  No sockets, no pickle.

    frame 0   magic b"drl2" + MessagePack of [message, tensor specs], behind them [codec, tensor headers] unless it is identity
    frame 1+  one tensor each: its raw bytes in C order, or what the codec made of them (runtime/codecs)

Whatever a peer sends, decoding gives a valid message or one MalformedMessage; sizes are checked
before anything is allocated, and tensors of the identity codec are read-only views of the received frames.

`to_frames` and `from_frames` do all at once.  Where encoding is worth a worker's time, `pack` there and `seal` here,
`unseal` here and `unpack` there (runtime/codecs/parcel.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.codecs import find_codec
from runtime.codecs.header import TensorHeader
from runtime.codecs.parcel import IDENTITY, Parcel, pack, unpack
from runtime.codecs.raw import Frame, dtype_of, raw_bytes, read_raw, spec_of, write_raw
from runtime.errors import InvalidDecision, MalformedMessage
from runtime.messages import WIRE_VERSION, Message, TensorSpec

__all__ = [
    "MAX_FRAMES",
    "MAX_HEADER_BYTES",
    "MAX_MESSAGE_BYTES",
    "Frame",
    "check_sizes",
    "from_frames",
    "num_bytes",
    "seal",
    "to_frames",
    "unseal",
]

MAX_FRAMES = 17
"""A header and at most 16 tensors: no cut of a known network family carries more."""
MAX_HEADER_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A batch-one activation of the largest ImageNet networks is below 13 MB; four times that leaves room.
Holds for the frames as they came and for the tensors that they decode to."""

_MAGIC = b"drl%d" % WIRE_VERSION


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    message: Message
    tensors: tuple[TensorSpec, ...] = ()


class _EncodedEnvelope(_Envelope, frozen=True, array_like=True):
    codec: str = IDENTITY
    headers: tuple[TensorHeader, ...] = ()


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_EncodedEnvelope)


def to_frames(message: Message, tensors: Sequence[np.ndarray] = (), codec: str = IDENTITY) -> list[Frame]:
    """Encode as [header, *tensors]; tensor i is array i in C order, its shape and dtype kept (0-d too).

    Raises InvalidDecision for an unknown codec, InvalidTensor for tensors that do not travel or that it cannot write.
    """
    if codec != IDENTITY:
        return seal(message, pack(tensors, codec))
    packed = [np.asarray(tensor, order="C") for tensor in tensors]
    envelope = _Envelope(message, tuple(spec_of(tensor) for tensor in packed))
    frames: list[Frame] = [_MAGIC + _ENCODER.encode(envelope)]
    frames.extend(write_raw(tensor) for tensor in packed)
    return frames


def from_frames(frames: Sequence[Frame]) -> tuple[Message, list[np.ndarray]]:
    """Invert `to_frames`, up to what a lossy codec lost.  Raises MalformedMessage whatever the peer sent."""
    envelope = _open(frames)
    if envelope.codec != IDENTITY:
        return envelope.message, unpack(_parcel(envelope, frames)).tensors
    return envelope.message, [read_raw(frame, spec) for spec, frame in zip(envelope.tensors, frames[1:], strict=True)]


def seal(message: Message, parcel: Parcel) -> list[Frame]:
    """The frames of a message whose tensors are packed already."""
    if parcel.codec == IDENTITY:
        envelope = _Envelope(message, parcel.specs)
    else:
        envelope = _EncodedEnvelope(message, parcel.specs, parcel.codec, parcel.headers)
    return [_MAGIC + _ENCODER.encode(envelope), *parcel.frames]


def unseal(frames: Sequence[Frame]) -> tuple[Message, Parcel]:
    """Invert `seal`: the message, and its tensors' specs before any of them is decoded.

    Raises MalformedMessage; `unpack` may do so still.
    """
    envelope = _open(frames)
    return envelope.message, _parcel(envelope, frames)


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


def _open(frames: Sequence[Frame]) -> _EncodedEnvelope:
    """The header of a message, consistent with its frames.  Raises MalformedMessage."""
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
    if envelope.codec != IDENTITY or envelope.headers:
        _check_encoding(envelope)
    if envelope.codec == IDENTITY:
        _check_lengths(envelope, frames)
    return envelope


def _parcel(envelope: _EncodedEnvelope, frames: Sequence[Frame]) -> Parcel:
    return Parcel(specs=envelope.tensors, codec=envelope.codec, headers=envelope.headers, frames=tuple(frames[1:]))


def _check_lengths(envelope: _EncodedEnvelope, frames: Sequence[Frame]) -> None:
    """Raise MalformedMessage unless frames are as long as their specs say: they may go on without ever being read."""
    for spec, frame in zip(envelope.tensors, frames[1:], strict=True):
        if len(frame) != raw_bytes(spec):
            raise MalformedMessage(f"tensor {spec.dtype}{list(spec.shape)} needs {raw_bytes(spec)} bytes, got {len(frame)}")


def _check_encoding(envelope: _EncodedEnvelope) -> None:
    """Raise MalformedMessage for an unknown codec, a wrong number of headers, or tensors that would decode to too much."""
    try:
        find_codec(envelope.codec)
    except InvalidDecision as exc:
        raise MalformedMessage(str(exc)) from exc
    num_headers, num_due = len(envelope.headers), 0 if envelope.codec == IDENTITY else len(envelope.tensors)
    if num_headers != num_due:
        raise MalformedMessage(f"{num_headers} tensor headers for {len(envelope.tensors)} tensors in {envelope.codec}, expected {num_due}")
    total = sum(dtype_of(spec).itemsize * math.prod(max(extent, 1) for extent in spec.shape) for spec in envelope.tensors)
    if total > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"a message's tensors have at most {MAX_MESSAGE_BYTES} bytes, these would decode to {total}")
