"""`dgc`: Deep Gradient Compression, one element in a thousand without losing the momentum.

    u <- m u + g          momentum correction: the velocity is accumulated, not the gradient
    v <- v + u            what has not been sent
    send v at the k largest |v|; there v <- v - sent and u <- 0   (momentum factor masking)

The density falls in steps at the start (warm-up), while the network changes fastest.  The paper's stages last an epoch each, of
about 90, with an exchange after every gradient step.  Between two exchanges here there may be more than an epoch, so that a stage
is as large a share of the job's rounds instead, one round at least and ten at most: what a job without an end does first is still
short.  The paper estimates the threshold on a sample, for graphics
processors; here it is exact.  The sender's own optimiser must have no momentum: it is in u.
Source: Lin, Han, Mao, Wang, Dally, "Deep Gradient Compression", ICLR 2018 (arXiv:1712.01887), section 3 and algorithm 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.training.compress.interface import Compressed, Operator, check_finite, check_update
from runtime.training.compress.sparse import TopK
from runtime.training.compress.state import CompressorState

WARM_UP_DENSITIES = (0.25, 0.0625, 0.015625, 0.004)
"""Sparsity 75 %, 93.75 %, 98.4375 %, 99.6 % in the epochs before the final one.  Source: Lin et al., section 3.3."""
FINAL_DENSITY = 0.001
NUM_EPOCHS = 90
"""Of a training of which each stage of the warm-up is one.  Source: Lin et al., section 4.2: 4 of 90 on ImageNet (of 164 on CIFAR-10)."""
MAX_ROUNDS_PER_STAGE = 10
"""Own choice, a stage of 900 rounds: longer jobs, and those that only end when they are stopped, have as long a warm-up as these."""


class DeepGradientCompression:
    """Top-k of the accumulated velocity; `values` may quantise what is sent, its error stays in v."""

    def __init__(
        self,
        *,
        momentum: float = 0.9,
        warm_up: Sequence[float] = WARM_UP_DENSITIES,
        density: float = FINAL_DENSITY,
        rounds_per_stage: int = 1,
        values: Operator | None = None,
    ) -> None:
        if not 0 <= momentum < 1 or rounds_per_stage < 1:
            raise ValueError(f"momentum lies in [0, 1) and a stage has at least one round, got {momentum} and {rounds_per_stage}")
        self._momentum, self._rounds_per_stage = momentum, rounds_per_stage
        self._warm_up, self._density, self._values = tuple(warm_up), density, values
        self._stages = tuple(TopK(each, values) for each in (*warm_up, density))
        self._widest = max(self._stages, key=lambda stage: stage.density)

    def start(self, num_elements: int) -> CompressorState:
        """At rest, nothing accumulated."""
        zeros = np.zeros(num_elements, dtype=np.float32)
        return CompressorState(num_elements=num_elements, residual=zeros, momentum=zeros)

    def compress(self, vector: np.ndarray, state: CompressorState, rng: np.random.Generator) -> tuple[Compressed, CompressorState]:
        """See `Compressor.compress`; the density is that of `state.round_number`."""
        check_update(vector, state)
        velocity = np.float32(self._momentum) * state.momentum + vector
        accumulated = state.residual + velocity
        check_finite(accumulated)
        operator = self._stage(state.round_number)
        compressed = operator.encode(accumulated, rng)
        velocity[operator.kept(compressed, vector.size)] = 0.0
        accumulated -= operator.decode(compressed, vector.size)
        after = CompressorState(num_elements=vector.size, round_number=state.round_number + 1, residual=accumulated, momentum=velocity)
        return compressed, after

    def decompress(self, compressed: Compressed, num_elements: int) -> np.ndarray:
        """See `Compressor.decompress`; bounded by the widest stage, because a receiver may not know the sender's round."""
        return self._widest.decode(compressed, num_elements)

    def bytes_estimate(self, num_elements: int, round_number: int = 0) -> int:
        """Falls with the density."""
        return self._stage(round_number).bytes_estimate(num_elements)

    def for_rounds(self, num_rounds: int) -> DeepGradientCompression:
        """A stage of the warm-up is a ninetieth of the rounds, rounded, one at least and `MAX_ROUNDS_PER_STAGE` at most."""
        return DeepGradientCompression(
            momentum=self._momentum,
            warm_up=self._warm_up,
            density=self._density,
            rounds_per_stage=min(max(1, round(num_rounds / NUM_EPOCHS)), MAX_ROUNDS_PER_STAGE),
            values=self._values,
        )

    def density(self, round_number: int) -> float:
        """Share of the elements that is sent in a round."""
        return self._stage(round_number).density

    def _stage(self, round_number: int) -> TopK:
        return self._stages[min(round_number // self._rounds_per_stage, len(self._stages) - 1)]
