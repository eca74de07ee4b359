"""Compressors of updates between training nodes, by the name that a job gives.  Numpy only."""

from __future__ import annotations

from runtime.errors import InvalidConfig
from runtime.training.compress.dgc import DeepGradientCompression
from runtime.training.compress.identity import Identity
from runtime.training.compress.interface import Compressed, Compressor
from runtime.training.compress.memory import ErrorFeedback, Memoryless
from runtime.training.compress.qsgd import Qsgd
from runtime.training.compress.sign import Sign
from runtime.training.compress.sparse import RandomK, TopK
from runtime.training.compress.state import CompressorState, load_state, save_state

__all__ = ["COMPRESSORS", "Compressed", "Compressor", "CompressorState", "find_compressor", "load_state", "save_state"]

COMPRESSORS: dict[str, Compressor] = {
    "dgc": DeepGradientCompression(),
    "dgc+qsgd8": DeepGradientCompression(values=Qsgd(8)),
    "identity": Memoryless(Identity()),
    "qsgd2": Memoryless(Qsgd(2, bucket_elements=64)),
    "qsgd4": Memoryless(Qsgd(4)),
    "qsgd8": Memoryless(Qsgd(8)),
    "randomk1": Memoryless(RandomK(0.01)),
    "randomk10": Memoryless(RandomK(0.10)),
    "sign+ef": ErrorFeedback(Sign()),
    "topk1+ef": ErrorFeedback(TopK(0.01)),
    "topk1+qsgd4+ef": ErrorFeedback(TopK(0.01, Qsgd(4, bucket_elements=64))),
    "topk1+sign+ef": ErrorFeedback(TopK(0.01, Sign())),
    "topk10+ef": ErrorFeedback(TopK(0.10)),
    "topk10+qsgd4+ef": ErrorFeedback(TopK(0.10, Qsgd(4, bucket_elements=64))),
    "topk2+qsgd4+ef": ErrorFeedback(TopK(0.02, Qsgd(4, bucket_elements=64))),
    "topk3+sign+ef": ErrorFeedback(TopK(0.03, Sign())),
}
"""name -> compressor.  A number behind qsgd is bits, behind topk and randomk the density in percent; +ef: error feedback.

`topk+sign+ef` is sparse ternary compression: the largest values are alike enough for one magnitude, and what a bit less for each
saves pays for more of them.  Source: Sattler, Wiedemann, Mueller, Samek, IEEE TNNLS 31(9), 2020 (arXiv:1903.02891), algorithm 1.
Smaller buckets where fewer levels must do, or where the values are all large: the error grows with the bucket.
"""


def find_compressor(name: str, num_rounds: int) -> Compressor:
    """The compressor of that name, for a job in which a sender has so many rounds.  Raises InvalidConfig naming those there are."""
    compressor = COMPRESSORS.get(name)
    if compressor is None:
        raise InvalidConfig(f"compressor {name!r} does not exist; there is {', '.join(COMPRESSORS)}")
    return compressor.for_rounds(num_rounds)
