"""The candidate scorer's forward pass in numpy: what the daemon decides with, without torch.

    hidden_1[k] = act(state @ state_weight.T + state_bias + candidates[k] @ candidate_weight.T)
    hidden_2[k] = act(hidden_1[k] @ hidden_weight.T + hidden_bias)
    logit[k]    = hidden_2[k] @ output_weight - kappa * myopic_cost[k]          masked: MASKED_LOGIT

The state's share of the first layer is computed once, whatever the number of candidates K.
`agents/scoring.py` is the same function in torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

MASKED_LOGIT = -1e9
"""Far below any logit, yet finite, so that softmax and entropy stay defined."""

Activation = Literal["tanh", "relu"]


class NetworkShape(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the scorer."""

    state_size: int
    candidate_size: int
    hidden_size: int
    activation: Activation = "tanh"
    myopic_index: int
    """Candidate column that holds the scaled myopic cost above the best candidate's."""
    myopic_scale: float = 1.0
    """Cost per unit of that column."""

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every float32 tensor of the scorer by name, sorted."""
        hidden = self.hidden_size
        return {
            "candidate_weight": (hidden, self.candidate_size),
            "hidden_bias": (hidden,),
            "hidden_weight": (hidden, hidden),
            "kappa": (),
            "output_weight": (hidden,),
            "state_bias": (hidden,),
            "state_weight": (hidden, self.state_size),
        }


class ScoringNetwork:
    """Scores candidates.  Not thread-safe: it reuses its work arrays."""

    def __init__(self, shape: NetworkShape, arrays: Mapping[str, Float32]) -> None:
        """`arrays` as `shape.tensor_shapes()` says; they are copied."""
        self.shape = shape
        self._state_weight = np.ascontiguousarray(arrays["state_weight"].T)
        self._state_bias = arrays["state_bias"].copy()
        self._candidate_weight = np.ascontiguousarray(arrays["candidate_weight"].T)
        self._hidden_weight = np.ascontiguousarray(arrays["hidden_weight"].T)
        self._hidden_bias = arrays["hidden_bias"].copy()
        self._output_weight = arrays["output_weight"].copy()
        self._greed = np.float32(float(arrays["kappa"]) * shape.myopic_scale)
        self._activate: np.ufunc | None = np.tanh if shape.activation == "tanh" else None
        self._work = self._allocate(1)

    def logits(self, state: Float32, candidates: Float32, mask: NDArray[np.generic]) -> Float32:
        """One observation: state [S], candidates [K, F], mask [K] (0: not to be chosen) -> logits [K]."""
        if len(candidates) != len(self._work[0]):
            self._work = self._allocate(len(candidates))
        first, second = self._work
        np.matmul(candidates, self._candidate_weight, out=first)
        np.add(first, state @ self._state_weight + self._state_bias, out=first)
        self._activation(first)
        np.matmul(first, self._hidden_weight, out=second)
        np.add(second, self._hidden_bias, out=second)
        self._activation(second)
        scores = second @ self._output_weight - self._greed * candidates[:, self.shape.myopic_index]
        scores[mask == 0] = MASKED_LOGIT
        return scores

    def logits_batch(self, state: Float32, candidates: Float32, mask: NDArray[np.generic]) -> Float32:
        """Many observations: state [N, S], candidates [N, K, F], mask [N, K] -> logits [N, K]."""
        shared = state @ self._state_weight + self._state_bias
        first = candidates @ self._candidate_weight + shared[:, None, :]
        self._activation(first)
        second = first @ self._hidden_weight + self._hidden_bias
        self._activation(second)
        scores = second @ self._output_weight - self._greed * candidates[:, :, self.shape.myopic_index]
        scores[mask == 0] = MASKED_LOGIT
        return scores

    def _activation(self, values: Float32) -> None:
        if self._activate is not None:
            self._activate(values, out=values)
        else:
            np.maximum(values, 0.0, out=values)

    def _allocate(self, num_candidates: int) -> tuple[Float32, Float32]:
        shape = (num_candidates, self.shape.hidden_size)
        return np.empty(shape, np.float32), np.empty(shape, np.float32)
