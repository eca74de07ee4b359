"""Two general-purpose compressors: bytes to fewer bytes and back, never to more than the caller allows."""

from __future__ import annotations

from typing import Protocol

import lz4.block
import zstandard

from runtime.codecs.raw import Frame
from runtime.errors import MalformedMessage

ZSTD_LEVEL = 1
"""The fastest of the ordinary levels; level 3 makes activations no smaller (within 0.5 % of their bytes) and is slower."""


class Compressor(Protocol):
    """Stateless; compression is deterministic for one version of its library."""

    def compress(self, data: Frame) -> bytes:
        """Compress any bytes."""
        ...

    def decompress(self, data: Frame, max_bytes: int) -> bytes:
        """Invert `compress`.  Raises MalformedMessage when it is not a whole stream, or one of more than `max_bytes`."""
        ...


class Zstd:
    """Zstandard, one frame with its content size.  Source: RFC 8878.

    Contexts are made for each call (about 20 us for both ends): the library's must not be shared between threads.
    """

    def compress(self, data: Frame) -> bytes:
        """One frame."""
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)

    def decompress(self, data: Frame, max_bytes: int) -> bytes:
        """Refuses by the announced size first: the library allocates what the frame announces, whatever its limit says."""
        try:
            announced = zstandard.get_frame_parameters(data).content_size  # 2^64 - 1 when it is not said
            if announced > max_bytes:
                raise MalformedMessage(f"zstd frame announces {announced} bytes, at most {max_bytes} are due")
            return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        except zstandard.ZstdError as exc:
            raise MalformedMessage(f"zstd frame of {len(data)} bytes does not decode: {exc}") from exc


class Lz4:
    """LZ4, one bare block.  Source: the LZ4 block format description, lz4.org."""

    def compress(self, data: Frame) -> bytes:
        """One block without a size in front."""
        block: bytes = lz4.block.compress(data, store_size=False)
        return block

    def decompress(self, data: Frame, max_bytes: int) -> bytes:
        """The library writes into a buffer of `max_bytes` and stops there."""
        try:
            decoded: bytes = lz4.block.decompress(data, uncompressed_size=max_bytes)
        except lz4.block.LZ4BlockError as exc:
            raise MalformedMessage(f"lz4 block of {len(data)} bytes does not decode to {max_bytes} at most: {exc}") from exc
        return decoded
