"""Two memories that an operator may have: none, and the error that it made.

    error feedback    p_t = g_t + e_t,   send C(p_t),   e_{t+1} = p_t - C(p_t)

so that the sum of what was sent plus the error left is the sum of what was handed in: nothing that was sent and taken is lost, only
late.  What was sent in a round that failed for want of others is gone; what was never sent is as if it had not been handed in.  Hand in
steps with the learning rate already in them where it changes, or old errors are applied with the new rate.
Source: Karimireddy et al., ICML 2019 (arXiv:1901.09847), algorithm 2.
"""

from __future__ import annotations

import msgspec
import numpy as np

from runtime.training.compress.interface import Compressed, Operator, check_finite, check_update
from runtime.training.compress.state import CompressorState


class Memoryless:
    """An operator as it is: for exact and for unbiased ones."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def start(self, num_elements: int) -> CompressorState:
        """Only the rounds are counted."""
        return CompressorState(num_elements=num_elements)

    def compress(self, vector: np.ndarray, state: CompressorState, rng: np.random.Generator) -> tuple[Compressed, CompressorState]:
        """See `Compressor.compress`."""
        check_update(vector, state)
        compressed = self._operator.encode(vector, rng)
        return compressed, msgspec.structs.replace(state, round_number=state.round_number + 1)

    def decompress(self, compressed: Compressed, num_elements: int) -> np.ndarray:
        """See `Compressor.decompress`."""
        return self._operator.decode(compressed, num_elements)

    def bytes_estimate(self, num_elements: int, round_number: int = 0) -> int:
        """The same in every round."""
        return self._operator.bytes_estimate(num_elements)

    def for_rounds(self, num_rounds: int) -> Memoryless:
        """Itself: every round is like the others."""
        return self


class ErrorFeedback(Memoryless):
    """Adds the error of all rounds before to each update; for contractions, biased or not."""

    def start(self, num_elements: int) -> CompressorState:
        """No error yet."""
        return CompressorState(num_elements=num_elements, residual=np.zeros(num_elements, dtype=np.float32))

    def compress(self, vector: np.ndarray, state: CompressorState, rng: np.random.Generator) -> tuple[Compressed, CompressorState]:
        """See `Compressor.compress`; the residual is what the receiver will lack, computed from the real frames."""
        check_update(vector, state)
        corrected = vector + state.residual
        check_finite(corrected)
        compressed = self._operator.encode(corrected, rng)
        residual = corrected - self._operator.decode(compressed, vector.size)
        return compressed, msgspec.structs.replace(state, round_number=state.round_number + 1, residual=residual)
