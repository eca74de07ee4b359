"""What a codec costs and what it breaks, measured on given tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from runtime.codecs.parcel import pack, unpack


class CodecCost(msgspec.Struct, frozen=True, kw_only=True):
    """One codec on N samples, a sample being the tensors of one cut for one input.  Arrays are [N]."""

    raw_bytes: np.ndarray
    """int64: what identity sends."""
    num_bytes: np.ndarray
    """int64: the frames, without the message's header."""
    encode_s: np.ndarray
    """float64: the fastest of the repeats, whatever else the machine did in the others."""
    decode_s: np.ndarray


def measure_codec(codec: str, samples: Sequence[Sequence[np.ndarray]], repeats: int = 3) -> CodecCost:
    """Encode and decode every sample `repeats` times.

    Raises InvalidDecision for an unknown codec, InvalidTensor for values that it cannot write.
    """
    raw_bytes = np.array([sum(tensor.nbytes for tensor in sample) for sample in samples], dtype=np.int64)
    num_bytes = np.empty(len(samples), dtype=np.int64)
    encode_s, decode_s = np.empty((2, repeats, len(samples)))
    for repeat in range(repeats):
        for index, sample in enumerate(samples):
            parcel = pack(sample, codec)
            num_bytes[index] = sum(len(frame) for frame in parcel.frames)
            encode_s[repeat, index] = parcel.encode_s
            decode_s[repeat, index] = unpack(parcel).decode_s
    return CodecCost(raw_bytes=raw_bytes, num_bytes=num_bytes, encode_s=encode_s.min(axis=0), decode_s=decode_s.min(axis=0))


def judge_codec(codec: str, samples: Sequence[Sequence[np.ndarray]], is_correct: Callable[[int, list[np.ndarray]], bool]) -> np.ndarray:
    """uint8 [N]: 1 where `is_correct(i, decoded tensors of sample i)` says so.

    The accuracy that a codec costs is the mean of identity's minus the mean of its own.  Raises like `measure_codec`.
    """
    right = [is_correct(index, unpack(pack(sample, codec)).tensors) for index, sample in enumerate(samples)]
    return np.array(right, dtype=np.uint8)
