"""Means: of all updates weighted by examples, and of updates whose norm is bounded."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidConfig
from runtime.training.aggregation.rule import ordered, stack
from runtime.training.update import Update, Vector


def weighted_mean(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_k w_k v_k / sum_k w_k of vectors [K, P] and weights [K] > 0: float64 [P].

    Source: McMahan et al., AISTATS 2017, Algorithm 1 (server update).
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights, dtype=np.float64)
    return np.asarray(shares @ vectors)


class WeightedMean(msgspec.Struct, frozen=True, kw_only=True):
    """The mean weighted by examples: FedAvg, the reference of the family.  One attacker moves it anywhere.

    FedProx aggregates so too; its proximal term belongs to the local step (`runtime/training/proximal.py`).
    """

    def combine(self, updates: Sequence[Update]) -> Vector:
        """Float32 [P]."""
        in_order = ordered(updates)
        weights = np.array([update.header.num_examples for update in in_order], np.float64)
        return weighted_mean(stack(in_order), weights).astype(np.float32)


def clip_norms(vectors: np.ndarray, max_norm: float) -> np.ndarray:
    """Scale each row of [K, P] down to an L2 norm of at most `max_norm`; shorter rows stay as they are."""
    norms = np.linalg.norm(vectors, axis=1)
    factors = np.divide(max_norm, norms, out=np.ones_like(norms), where=norms > max_norm)
    return np.asarray(vectors * factors[:, None])


class NormClipped(msgspec.Struct, frozen=True, kw_only=True):
    """The plain mean of updates clipped in norm: an attacker moves it by at most max_norm / K.

    Clients weigh the same, because an attacker may claim any number of examples.
    Source: Sun et al., "Can You Really Backdoor Federated Learning?", 2019, section 4.3 (norm thresholding).
    """

    max_norm: float | None = None
    """L2 bound. None: the median norm of the round, which fewer than half of the clients cannot push above all honest norms."""

    def __post_init__(self) -> None:
        if self.max_norm is not None and not 0.0 < self.max_norm < float("inf"):
            raise InvalidConfig(f"max_norm must be finite and > 0, or None for the round's median, got {self.max_norm}")

    def combine(self, updates: Sequence[Update]) -> Vector:
        """Float32 [P]."""
        vectors = stack(ordered(updates))
        bound = float(np.median(np.linalg.norm(vectors, axis=1))) if self.max_norm is None else self.max_norm
        return np.asarray(clip_norms(vectors, bound).mean(axis=0)).astype(np.float32)
