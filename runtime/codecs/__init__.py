"""Wire codecs: how a tensor is written on a link, by the name that a decision gives."""

from __future__ import annotations

from runtime.codecs.affine import AffineInt8
from runtime.codecs.compressors import Lz4, Zstd
from runtime.codecs.half import Half
from runtime.codecs.identity import Identity
from runtime.codecs.interface import Codec
from runtime.codecs.lossless import Compressed
from runtime.codecs.topk import TopK
from runtime.errors import InvalidDecision

__all__ = ["CODECS", "find_codec", "is_lossless"]

CODECS: dict[str, Codec] = {
    "fp16": Half(),
    "fp16+lz4": Compressed(Half(), Lz4()),
    "fp16+zstd": Compressed(Half(), Zstd()),
    "identity": Identity(),
    "identity+lz4": Compressed(Identity(), Lz4()),
    "identity+zstd": Compressed(Identity(), Zstd()),
    "int8": AffineInt8(),
    "int8+lz4": Compressed(AffineInt8(), Lz4()),
    "int8+zstd": Compressed(AffineInt8(), Zstd()),
    "topk10": TopK(10),
    "topk10+lz4": Compressed(TopK(10), Lz4()),
    "topk10+zstd": Compressed(TopK(10), Zstd()),
    "topk5": TopK(5),
    "topk5+lz4": Compressed(TopK(5), Lz4()),
    "topk5+zstd": Compressed(TopK(5), Zstd()),
}
"""name -> codec; the number behind topk is the density in percent.

Densities from 22 % on are left out: their float32 values and indices take more bytes than int8, which loses less.
"""


def is_lossless(name: str) -> bool:
    """Whether tensors come back as they were, whatever they are."""
    return name.partition("+")[0] == "identity"


def find_codec(name: str) -> Codec:
    """The codec of that name.  Raises InvalidDecision naming those there are."""
    codec = CODECS.get(name)
    if codec is None:
        raise InvalidDecision(f"codec {name!r} does not exist; there is {', '.join(CODECS)}")
    return codec
