"""Small integers side by side in bytes, and vectors in buckets: what the quantisers share."""

from __future__ import annotations

import numpy as np

from runtime.codecs.raw import Frame
from runtime.errors import MalformedMessage


def pack(levels: np.ndarray, bits: int) -> bytes:
    """uint8 [n] with values below 2^bits, bits of 1, 2, 4 or 8 -> ceil(n bits / 8) bytes, the first level lowest."""
    per_byte = 8 // bits
    padded = np.zeros(-(-levels.size // per_byte) * per_byte, dtype=np.uint8)
    padded[: levels.size] = levels
    columns = padded.reshape(-1, per_byte)
    packed = columns[:, 0].copy()
    for index in range(1, per_byte):
        packed |= columns[:, index] << np.uint8(bits * index)
    return packed.tobytes()


def unpack(frame: Frame, bits: int, count: int) -> np.ndarray:
    """The uint8 [count] that `pack` wrote.  Raises MalformedMessage for another size, and for padding that is not 0."""
    if len(frame) != packed_bytes(count, bits):
        raise MalformedMessage(f"{count} levels of {bits} bits have {packed_bytes(count, bits)} bytes, got {len(frame)}")
    stored = np.frombuffer(frame, dtype=np.uint8)
    per_byte, mask = 8 // bits, np.uint8(2**bits - 1)
    levels = np.empty((stored.size, per_byte), dtype=np.uint8)
    for index in range(per_byte):
        np.bitwise_and(stored >> np.uint8(bits * index), mask, out=levels[:, index])
    flat = levels.reshape(-1)
    if flat[count:].any():
        raise MalformedMessage(f"bits behind the last of {count} levels are set")
    return flat[:count]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` packed levels."""
    return (count * bits + 7) // 8


def num_buckets(num_elements: int, bucket_elements: int) -> int:
    """Buckets of a vector; the last may be shorter."""
    return -(-num_elements // bucket_elements)


def bucket_sums(values: np.ndarray, bucket_elements: int) -> np.ndarray:
    """float64 [B]: the sum of each bucket of values [n]."""
    if not values.size:
        return np.zeros(0)
    return np.add.reduceat(values, np.arange(0, values.size, bucket_elements), dtype=np.float64)


def spread(per_bucket: np.ndarray, bucket_elements: int, num_elements: int) -> np.ndarray:
    """Values [B] -> [n]: each element has its bucket's."""
    return np.repeat(per_bucket, bucket_elements)[:num_elements]
