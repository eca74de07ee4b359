"""The feature of what is not in memory: one more of each candidate, only where nodes load or fetch what they need when they need it.

A node reports which variants are in memory there (`NodeView.loaded`): their weights, and at least one segment.  Loading one of
the others is what a decision for it costs beyond its prediction, which knows nothing of memory.  Everything counts as loaded
where nothing is told of it, as in the vectorised simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from envs.feature_field import BOUND, Field
from runtime.loading_profile import LoadingProfile
from runtime.messages import TIERS, Decision

if TYPE_CHECKING:
    from envs.costs import CostModel

Loaded = tuple[tuple[str, ...], ...]
"""Of device, edge and cloud: variants in memory, as `model/variant`."""

LOADING_FIELDS = (Field("cold", "loading, on the tiers that compute, of a variant that is not in memory there", "T", 0, BOUND),)

_MOST_KNOWN = 4096
"""Combinations of what is loaded that are kept worked out; with more, all are worked out anew."""


def decision_load_s(loading: LoadingProfile, decision: Decision, end: int) -> tuple[float, float, float]:
    """Seconds in which device, edge and cloud each load their share of a decision, as one piece, when nothing of it is there."""
    p, q = decision.cuts
    info, bounds = loading.variants[decision.variant], ((0, p), (p, q), (q, end))
    device_s, edge_s, cloud_s = (info.weights_s + info.load_s(start, stop) if start < stop else 0.0 for start, stop in bounds)
    return device_s, edge_s, cloud_s


class LoadingEncoder:
    """The feature for one cost model's decisions."""

    def __init__(self, cost_model: CostModel) -> None:
        self._load = np.array(cost_model.load_s) / cost_model.deadline_s
        self._names = np.array([f"{decision.model}/{decision.variant}" for decision in cost_model.decisions])
        self._known: dict[Loaded, npt.NDArray[np.float32]] = {}

    def encode(self, loaded: Sequence[Loaded] | None, num: int) -> npt.NDArray[np.float32]:
        """float32 [N, K, 1] of what N observations tell; 0 where they tell nothing."""
        if loaded is None:
            return np.zeros((num, len(self._names), 1), np.float32)
        return np.stack([self._cold(one) for one in loaded])[:, :, None]

    def _cold(self, loaded: Loaded) -> npt.NDArray[np.float32]:
        known = self._known.get(loaded)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            absent: npt.NDArray[Any] = np.stack([~np.isin(self._names, loaded[tier]) for tier in range(len(TIERS))], axis=1)
            known = self._known[loaded] = np.minimum((self._load * absent).sum(axis=1), BOUND).astype(np.float32)
        return known
