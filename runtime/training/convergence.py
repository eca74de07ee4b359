"""How the loss of a federated run falls, in closed form: FedAvg on heterogeneous quadratics, mean and variance of each direction.

Directions of the loss surface come in K classes of curvature l_k.  Half of the clients see a direction flatter and half
steeper, by the factors f = 1 -+ h, each kind with an optimum c of its own:

    F_f(w) = f l / 2 (w - c_f)^2,     c = D (1 + h) for the flat kind, -D (1 - h) for the steep one

so that the mean of all has curvature l and its optimum at 0.  One local step of rate r with gradient noise of variance s^2 is
w <- w - r (f l (w - c) + s xi); tau of them, with a = 1 - r f l, give

    w_f = a^tau w + (1 - a^tau) c + noise of variance r^2 s^2 (1 - a^2tau) / (1 - a^2)

and the mean of N clients, half of each kind, makes mean m and variance v of the next global weights

    m' = A m + b,     v' = A^2 v + E_f[variance of the noise] / N,     A = E_f[a^tau],     b = E_f[(1 - a^tau) c]

b is 0 for tau = 1, where federated training is SGD, and h D for tau without end: where local optima pull, long rounds end
elsewhere (client drift).  Weights are measured in units that make the loss above the irreducible one the sum of m^2 + v.

Gradient noise has the Hessian's shape, s^2 = noise * l.  Source: the recursions: Khaled, Mishchenko, Richtarik, "Tighter theory
for local SGD", AISTATS 2020, on quadratics, here exactly; noise like the Hessian: Jastrzebski et al., "Three factors influencing
minima in SGD", 2017, section 2; the model's form is ours.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from runtime.errors import InvalidConfig
from runtime.training.tau import LossSurface

Array = npt.NDArray[np.float64]


class Progress(NamedTuple):
    """Where N runs stand, each array [K, N] in units of the square root of the loss."""

    mean: Array
    variance: Array

    def column(self, run: int) -> Progress:
        """That run alone, N = 1."""
        return Progress(self.mean[:, run : run + 1], self.variance[:, run : run + 1])


class Local(NamedTuple):
    """Local weights before the aggregation, of the flat and the steep kind, [2, K, N]."""

    power: Array
    """a^tau"""
    noise: Array
    """Variance that the steps added."""


class Rounds(NamedTuple):
    """What rounds do to mean and variance, each array [K, N]."""

    contraction: Array
    bias: Array
    noise: Array

    def apply(self, progress: Progress) -> Progress:
        """After them."""
        with np.errstate(over="ignore"):
            mean = self.contraction * progress.mean + self.bias
            return Progress(mean, self.contraction**2 * progress.variance + self.noise)


class ConvergenceModel(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """A fitted loss surface.  Pure: progress goes in and comes out.  Raises InvalidConfig for parameters that no surface has."""

    curvatures: tuple[float, ...]
    """[K] l_k > 0, per unit of learning rate."""
    initial_gaps: tuple[float, ...]
    """[K] loss above the irreducible one that is left in each class before the first round."""
    irreducible_loss: float = 0.0
    noise: float = 0.0
    """Gradient noise of one client, loss per unit of curvature."""
    spread: float = 0.0
    """h in [0, 1): how much clients' curvatures differ."""
    heterogeneity: tuple[float, ...] = ()
    """[K] loss l D^2 / 2 by which clients' optima lie apart in each class; empty for clients whose optima are one."""

    def __post_init__(self) -> None:
        values = (*self.curvatures, *self.initial_gaps, *self.heterogeneity, self.irreducible_loss, self.noise)
        if not all(math.isfinite(value) and value >= 0 for value in values) or not 0 <= self.spread < 1:
            raise InvalidConfig(f"parameters of a convergence model are finite and >= 0, and spread < 1, got {self}")
        num = len(self.curvatures)
        if not num or len(self.initial_gaps) != num or len(self.heterogeneity) not in (0, num):
            raise InvalidConfig("a convergence model needs classes of curvature, as many initial gaps, and as many heterogeneities or none")
        if min(self.curvatures) <= 0 or sum(self.initial_gaps) <= 0:
            raise InvalidConfig(f"curvatures are > 0 and so is one initial gap, got {self.curvatures} and {self.initial_gaps}")

    def start(self, num_runs: int) -> Progress:
        """N runs before their first round."""
        mean = np.sqrt(np.array(self.initial_gaps))[:, None].repeat(num_runs, axis=1)
        return Progress(mean, np.zeros_like(mean))

    def step(self, progress: Progress, tau: npt.ArrayLike, learning_rate: npt.ArrayLike, num_clients: npt.ArrayLike) -> Progress:
        """After one more round of tau local steps of `num_clients` clients; each is [N] or one for all."""
        return self.rounds(tau, learning_rate, num_clients, progress.mean.shape[1]).apply(progress)

    def rounds(self, tau: npt.ArrayLike, learning_rate: npt.ArrayLike, num_clients: npt.ArrayLike, num: int) -> Rounds:
        """The maps of `num` rounds."""
        local = self._local(tau, learning_rate, num)
        return Rounds(
            contraction=local.power.mean(axis=0),
            bias=((1.0 - local.power) * self._optima).mean(axis=0),
            noise=local.noise.mean(axis=0) / np.asarray(num_clients),
        )

    def loss(self, progress: Progress) -> Array:
        """Expected loss of the global weights, [N]; inf where the run diverged."""
        with np.errstate(over="ignore", invalid="ignore"):
            gap: Array = (progress.mean**2 + progress.variance).sum(axis=0)
        losses: Array = np.where(np.isnan(gap), np.inf, self.irreducible_loss + gap)
        return losses

    def drift(self, progress: Progress, tau: npt.ArrayLike, learning_rate: npt.ArrayLike) -> Array:
        """How far clients come apart in a round from here, [N]: E |update - mean update|^2 / E |update|^2, in 0..1.

        The noise of single clients counts; 0 for clients that agree, near 1 where their updates cancel out.
        """
        local = self._local(tau, learning_rate, progress.mean.shape[1])
        moved = (local.power - 1.0) * (progress.mean - self._optima)
        spread = (local.power - 1.0) ** 2 * progress.variance + local.noise
        in_weights = 2.0 / self._curvature
        common = (in_weights * (moved.mean(axis=0) ** 2 + (local.power.mean(axis=0) - 1.0) ** 2 * progress.variance)).sum(axis=0)
        whole = (in_weights * (moved**2 + spread).mean(axis=0)).sum(axis=0)
        drift: Array = 1.0 - np.divide(common, whole, out=np.ones_like(whole), where=whole > 0)
        return drift

    def surface(self, progress: Progress, tau: int, learning_rate: float) -> LossSurface:
        """Root mean squares of rho, beta and delta that the one run of `progress` would estimate after a round of `tau` from here.

        Source: the estimates are those of Wang et al., JSAC 2019, Algorithm 3 (runtime/training/tau.py).
        """
        mean, variance = progress
        local, slope = self._local(tau, learning_rate, 1), self._factors * self._curvature
        moved = (local.power - 1.0) * (mean - self._optima)
        to_weights = 2.0 / self._curvature
        distance = ((moved**2 + (local.power - 1.0) ** 2 * variance + local.noise) * to_weights).sum(axis=1)
        turned = ((moved**2 + (local.power - 1.0) ** 2 * variance + local.noise) * slope**2 * to_weights).sum(axis=1)
        before = self._factors * ((mean - self._optima) ** 2 + variance)
        after = self._factors * ((mean + moved - self._optima) ** 2 + local.power**2 * variance + local.noise)
        gradients = slope * (mean - self._optima)
        apart = ((gradients - gradients.mean(axis=0)) ** 2 + (slope - slope.mean(axis=0)) ** 2 * variance) * to_weights
        lengths = np.sqrt(np.maximum(distance, 1e-30))
        return LossSurface(
            lipschitz=float((np.abs((after - before).sum(axis=1)) / lengths).mean()),
            smoothness=float((np.sqrt(turned) / lengths).mean()),
            divergence=float(np.sqrt(apart.sum(axis=1)).mean()),
        )

    @cached_property
    def _curvature(self) -> Array:
        return np.array(self.curvatures)[:, None]

    @cached_property
    def _factors(self) -> Array:
        return np.array([1.0 - self.spread, 1.0 + self.spread])[:, None, None]

    @cached_property
    def _optima(self) -> Array:
        """[2, K, 1] local optima of the two kinds, in units of the square root of the loss."""
        distance = np.sqrt(np.array(self.heterogeneity or [0.0] * len(self.curvatures)))[:, None]
        return np.stack([distance * (1.0 + self.spread), -distance * (1.0 - self.spread)])

    def _local(self, tau: npt.ArrayLike, learning_rate: npt.ArrayLike, num_runs: int) -> Local:
        steps = np.broadcast_to(np.asarray(tau, np.float64), (num_runs,))
        rate = np.asarray(learning_rate, np.float64)
        factor = 1.0 - rate * self._factors * self._curvature
        with np.errstate(over="ignore"):
            power = factor**steps
            left = 1.0 - factor**2
            summed = np.where(np.abs(left) > 1e-12, (1.0 - power**2) / np.where(left == 0.0, 1.0, left), steps)
        return Local(power, rate**2 * self.noise * self._curvature**2 / 2.0 * summed)
