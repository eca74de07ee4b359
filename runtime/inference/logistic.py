"""Ridge logistic regression, small enough for a device: fitted in numpy, without chance.

P(target | x) = 1 / (1 + exp(-log_odds)),   log_odds = bias + weights . (x - mean) / scale
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from runtime.errors import InvalidInput

_MAX_STEPS = 100
_TOLERANCE = 1e-9


class Logistic(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted model; all arrays float64 [F]."""

    mean: np.ndarray
    scale: np.ndarray
    """Standard deviations of the features, 1 where one did not vary."""
    weights: np.ndarray
    bias: float

    def log_odds(self, features: np.ndarray) -> np.ndarray:
        """Features [..., F] -> float64 [...]."""
        odds: np.ndarray = ((features - self.mean) / self.scale) @ self.weights + self.bias
        return odds

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Features [..., F] -> float64 [...] in (0, 1)."""
        return sigmoid(self.log_odds(features))

    def rescaled(self, slope: float, offset: float) -> Logistic:
        """The model whose log odds are slope * log_odds + offset."""
        return Logistic(mean=self.mean, scale=self.scale, weights=slope * self.weights, bias=slope * self.bias + offset)


def fit_logistic(features: np.ndarray, targets: np.ndarray, l2: float) -> Logistic:
    """The minimum of the log-loss + l2 / 2 * |weights|^2; features [N, F] finite, targets [N] of 0 and 1.

    An infinite `l2` gives the constant model.  Targets are smoothed, so that probabilities stay inside (0, 1) even
    where only one class was seen.  Raises InvalidInput for arrays that do not fit, or l2 not > 0.
    Source: Newton's method as iteratively reweighted least squares, Bishop, "Pattern Recognition and Machine Learning",
    2006, section 4.3.3; smoothing: Platt, "Probabilistic outputs for support vector machines", 1999, section 2.2.
    """
    if features.ndim != 2 or targets.shape != (len(features),) or not len(features) or not np.isfinite(features).all():
        raise InvalidInput(f"fitting needs finite features [N, F] and targets [N], got {features.shape} and {targets.shape}")
    if not l2 > 0:
        raise InvalidInput(f"l2 must be > 0, got {l2!r}")
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    smooth = _smoothed(targets)
    bias = math.log(smooth.mean() / (1 - smooth.mean()))
    if math.isinf(l2):
        return Logistic(mean=mean, scale=scale, weights=np.zeros(features.shape[1]), bias=bias)
    design = np.hstack([(features - mean) / scale, np.ones((len(features), 1))])
    ridge = np.append(np.full(features.shape[1], l2), 0.0)
    solution = _minimise(design, smooth, ridge, np.append(np.zeros(features.shape[1]), bias))
    return Logistic(mean=mean, scale=scale, weights=solution[:-1], bias=float(solution[-1]))


def log_loss(log_odds: np.ndarray, targets: np.ndarray) -> float:
    """Mean of -log P(target), natural logarithm; never overflows."""
    return float(log_losses(log_odds, targets).mean())


def log_losses(log_odds: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The same of each sample, float64 [N]."""
    losses: np.ndarray = np.logaddexp(0.0, log_odds) - targets * log_odds
    return losses


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), never overflows."""
    probability: np.ndarray = np.exp(-np.logaddexp(0.0, -log_odds))
    return probability


def _smoothed(targets: np.ndarray) -> np.ndarray:
    """(positives + 1) / (positives + 2) for a positive, 1 / (negatives + 2) for a negative."""
    positive = targets.astype(bool)
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    return np.where(positive, (num_positive + 1) / (num_positive + 2), 1 / (num_negative + 2))


def _minimise(design: np.ndarray, targets: np.ndarray, ridge: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Newton steps, halved until the loss falls; the loss is convex, so this ends at its minimum."""

    def loss(at: np.ndarray) -> float:
        return len(targets) * log_loss(design @ at, targets) + 0.5 * float(ridge @ at**2)

    point, value = start, loss(start)
    for _ in range(_MAX_STEPS):
        probability = sigmoid(design @ point)
        gradient = design.T @ (probability - targets) + ridge * point
        curvature = (design.T * (probability * (1 - probability))) @ design + np.diag(ridge)
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        length = 1.0
        while loss(point - length * step) > value and length > _TOLERANCE:
            length /= 2
        point, last = point - length * step, value
        value = loss(point)
        if last - value <= _TOLERANCE * max(1.0, abs(last)):
            break
    return point
