"""Server optimisers: how the combined update of a round becomes new global weights.

The combined update d is used as a negative gradient.  Moments are float64 and leave no trace outside `ServerState`.

    plain       w += lr d
    momentum    m = b m + d;  w += lr m                                  Source: Hsu et al., 2019, section 4.3 (FedAvgM)
    adam        m = b1 m + (1 - b1) d;  v = b2 v + (1 - b2) d^2
                w += lr m / (sqrt(v) + tau), without bias correction     Source: Reddi et al., ICLR 2021, Algorithm 2 (FedAdam)
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np

from runtime.errors import InvalidConfig
from runtime.training.aggregation.server_state import ServerState
from runtime.training.update import Vector


class ServerOptimiser(Protocol):
    """Applies combined updates.  Its memory is a value that the caller keeps."""

    def start(self, num_parameters: int) -> ServerState:
        """The state before the first round of a model of P parameters."""
        ...

    def apply(self, weights: Vector, combined: Vector, state: ServerState) -> tuple[Vector, ServerState]:
        """New weights, float32 [P], and the state to keep for the next round; the inputs stay as they are."""
        ...


def _check_rates(learning_rate: float, **decays: float) -> None:
    if not 0.0 < learning_rate < float("inf"):
        raise InvalidConfig(f"learning_rate must be finite and > 0, got {learning_rate}")
    for name, decay in decays.items():
        if not 0.0 <= decay < 1.0:
            raise InvalidConfig(f"{name} must be in [0, 1), got {decay}")


class Plain(msgspec.Struct, frozen=True, kw_only=True):
    """Adds the combined update.  No memory but the count of rounds."""

    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        _check_rates(self.learning_rate)

    def start(self, num_parameters: int) -> ServerState:
        """No moments."""
        return ServerState()

    def apply(self, weights: Vector, combined: Vector, state: ServerState) -> tuple[Vector, ServerState]:
        """w + lr d."""
        moved = weights.astype(np.float64) + self.learning_rate * combined.astype(np.float64)
        return moved.astype(np.float32), ServerState(num_rounds=state.num_rounds + 1)


class Momentum(msgspec.Struct, frozen=True, kw_only=True):
    """Heavy-ball momentum on the server (FedAvgM)."""

    learning_rate: float = 1.0
    decay: float = 0.9

    def __post_init__(self) -> None:
        _check_rates(self.learning_rate, decay=self.decay)

    def start(self, num_parameters: int) -> ServerState:
        """A first moment of zeros."""
        return ServerState(first_moment=np.zeros(num_parameters))

    def apply(self, weights: Vector, combined: Vector, state: ServerState) -> tuple[Vector, ServerState]:
        """m = b m + d;  w + lr m."""
        first = self.decay * state.first_moment + combined.astype(np.float64)
        moved = weights.astype(np.float64) + self.learning_rate * first
        return moved.astype(np.float32), ServerState(num_rounds=state.num_rounds + 1, first_moment=first)


class Adam(msgspec.Struct, frozen=True, kw_only=True):
    """Adaptive server steps (FedAdam)."""

    learning_rate: float = 0.01
    first_decay: float = 0.9
    second_decay: float = 0.99
    adaptivity: float = 1e-3
    """tau: the larger, the less steps adapt.  The paper finds 1e-3 good across tasks."""

    def __post_init__(self) -> None:
        _check_rates(self.learning_rate, first_decay=self.first_decay, second_decay=self.second_decay)
        if not self.adaptivity > 0.0:
            raise InvalidConfig(f"adaptivity must be > 0, got {self.adaptivity}")

    def start(self, num_parameters: int) -> ServerState:
        """Both moments at their least: zero, and tau^2 (Algorithm 2 asks for v >= tau^2)."""
        return ServerState(first_moment=np.zeros(num_parameters), second_moment=np.full(num_parameters, self.adaptivity**2))

    def apply(self, weights: Vector, combined: Vector, state: ServerState) -> tuple[Vector, ServerState]:
        """One step of Algorithm 2."""
        step = combined.astype(np.float64)
        first = self.first_decay * state.first_moment + (1.0 - self.first_decay) * step
        second = self.second_decay * state.second_moment + (1.0 - self.second_decay) * np.square(step)
        moved = weights.astype(np.float64) + self.learning_rate * first / (np.sqrt(second) + self.adaptivity)
        return moved.astype(np.float32), ServerState(num_rounds=state.num_rounds + 1, first_moment=first, second_moment=second)
