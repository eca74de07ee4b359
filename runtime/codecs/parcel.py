"""The tensors of one message as they cross a link: specs, headers and frames, packed before and unpacked behind.

Packing and unpacking cost compute time, so whoever sends may do them in a worker and hand the parcel to the loop.
Each says how long it took.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.codecs import find_codec
from runtime.codecs.header import TensorHeader
from runtime.codecs.raw import Frame, read_raw, spec_of, write_raw
from runtime.messages import TensorSpec

IDENTITY = "identity"


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """Encoded tensors: one spec and one frame each, and one header each unless the codec is identity."""

    specs: tuple[TensorSpec, ...] = ()
    codec: str = IDENTITY
    headers: tuple[TensorHeader, ...] = ()
    frames: tuple[Frame, ...] = ()
    encode_s: float = 0.0
    """Time that packing took; 0 for a parcel that was received."""


class Unpacked(msgspec.Struct, frozen=True, kw_only=True):
    """Decoded tensors, of exactly the parcel's specs, and the time that it took."""

    tensors: list[np.ndarray]
    decode_s: float


def pack(tensors: Sequence[np.ndarray], codec: str = IDENTITY) -> Parcel:
    """Encode tensors, shapes and dtypes kept (0-d too).

    Raises InvalidDecision for an unknown codec, InvalidTensor for what it cannot write.
    """
    started_s = time.perf_counter()
    specs = tuple(spec_of(tensor) for tensor in tensors)
    if codec == IDENTITY:
        frames = tuple(write_raw(np.asarray(tensor, order="C")) for tensor in tensors)
        return Parcel(specs=specs, frames=frames, encode_s=time.perf_counter() - started_s)
    encode = find_codec(codec).encode
    encoded = [encode(tensor) for tensor in tensors]
    return Parcel(
        specs=specs,
        codec=codec,
        headers=tuple(one.header for one in encoded),
        frames=tuple(one.frame for one in encoded),
        encode_s=time.perf_counter() - started_s,
    )


def unpack(parcel: Parcel) -> Unpacked:
    """Decode a parcel.  Raises MalformedMessage for frames that are not what its specs and headers say."""
    started_s = time.perf_counter()
    if parcel.codec == IDENTITY:
        tensors = [read_raw(frame, spec) for spec, frame in zip(parcel.specs, parcel.frames, strict=True)]
    else:
        decode = find_codec(parcel.codec).decode
        tensors = [decode(header, frame, spec) for header, frame, spec in zip(parcel.headers, parcel.frames, parcel.specs, strict=True)]
    return Unpacked(tensors=tensors, decode_s=time.perf_counter() - started_s)
