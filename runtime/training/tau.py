"""How many local steps, tau, lie between two aggregations: fixed, or adapted to what the clients measure.

    each client, at an aggregation, on one minibatch:   rho_i  = |F_i(w_i) - F_i(w)| / |w_i - w|
                                                        beta_i = |g_i(w_i) - g_i(w)| / |w_i - w|
    server:   rho, beta = means weighted by examples,   delta = mean of |g_i(w) - g(w)| weighted by examples
              h(t)  = delta / beta ((eta beta + 1)^t - 1) - eta delta t          gap to centralised training
              T(t)  = R t / (c t + b)                                            local steps that budget R buys
              G(t)  = (1 + sqrt(1 + 4 T^2 phi eta rho h / t)) / (2 eta phi T) + rho h
              tau   = argmin G(t) over t in 1 .. min(search_factor tau, max_tau)

Source: Wang et al., "Adaptive Federated Learning in Resource Constrained Edge Computing Systems", JSAC 2019, Algorithms 2 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidInput
from runtime.training.update import Vector

MIN_DISTANCE = 1e-10
"""Below this distance of local and global weights both ratios are noise and count as 0."""
MIN_SMOOTHNESS = 1e-5
"""Lower bound of beta, which h divides by."""


class ClientEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What one client says of its loss surface."""

    num_examples: int
    lipschitz: float
    """rho_i"""
    smoothness: float
    """beta_i"""


class LossSurface(msgspec.Struct, frozen=True, kw_only=True):
    """What the server knows of all clients' losses; NaN where a client's loss diverged."""

    lipschitz: float
    """rho"""
    smoothness: float
    """beta"""
    divergence: float
    """delta: how far local gradients lie from their mean."""

    def is_finite(self) -> bool:
        """Whether tau may be computed from it."""
        return all(map(math.isfinite, (self.lipschitz, self.smoothness, self.divergence)))


def estimate_client(
    *,
    num_examples: int,
    local: Vector,
    start: Vector,
    local_loss: float,
    global_loss: float,
    local_gradient: Vector,
    global_gradient: Vector,
) -> ClientEstimate:
    """rho_i and beta_i from losses and gradients at local and global weights, all on the same minibatch; vectors [P]."""
    distance = float(np.linalg.norm(local.astype(np.float64) - start.astype(np.float64)))
    if distance < MIN_DISTANCE:
        return ClientEstimate(num_examples=num_examples, lipschitz=0.0, smoothness=0.0)
    gradient_change = float(np.linalg.norm(local_gradient.astype(np.float64) - global_gradient.astype(np.float64)))
    return ClientEstimate(
        num_examples=num_examples, lipschitz=abs(local_loss - global_loss) / distance, smoothness=gradient_change / distance
    )


def combine_estimates(estimates: Sequence[ClientEstimate], global_gradients: Sequence[Vector]) -> LossSurface:
    """rho, beta and delta from the clients' estimates and their gradients at the global weights, K of each in one order."""
    if not estimates or len(estimates) != len(global_gradients):
        raise InvalidInput(f"expected one gradient per estimate and at least one, got {len(global_gradients)} and {len(estimates)}")
    shares = np.array([estimate.num_examples for estimate in estimates], np.float64)
    shares /= shares.sum()
    gradients = np.stack(global_gradients).astype(np.float64)
    distances = np.linalg.norm(gradients - shares @ gradients, axis=1)
    return LossSurface(
        lipschitz=float(shares @ np.array([estimate.lipschitz for estimate in estimates])),
        smoothness=float(max(shares @ np.array([estimate.smoothness for estimate in estimates]), MIN_SMOOTHNESS)),
        divergence=float(shares @ distances),
    )


def gap(surface: LossSurface, learning_rate: float, num_steps: int) -> float:
    """h(t) >= 0; inf where it overflows.  Source: Wang et al., Theorem 1."""
    try:
        growth = math.expm1(num_steps * math.log1p(learning_rate * surface.smoothness))
    except OverflowError:
        return math.inf
    return max(0.0, surface.divergence / surface.smoothness * growth - learning_rate * surface.divergence * num_steps)


def objective(surface: LossSurface, *, learning_rate: float, phi: float, total_steps: float, num_steps: int) -> float:
    """G(t), the bound on the loss that `total_steps` local steps reach when aggregated each t.  Source: Wang et al., from Theorem 2."""
    loss_gap = surface.lipschitz * gap(surface, learning_rate, num_steps)
    root = math.sqrt(1.0 + 4.0 * total_steps**2 * phi * learning_rate * loss_gap / num_steps)
    return (1.0 + root) / (2.0 * learning_rate * phi * total_steps) + loss_gap
