"""Aggregators: how the updates of a round become new global weights, by the name that a training job gives."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidConfig, InvalidTensor
from runtime.training.aggregation.coordinatewise import CoordinateMedian, TrimmedMean
from runtime.training.aggregation.krum import Krum
from runtime.training.aggregation.means import NormClipped, WeightedMean
from runtime.training.aggregation.rule import Rule
from runtime.training.aggregation.server_optimiser import Adam, Momentum, Plain, ServerOptimiser
from runtime.training.aggregation.server_state import ServerState
from runtime.training.update import Update, Vector, find_defect

__all__ = ["AGGREGATORS", "Aggregator", "find_aggregator"]


class Aggregator(msgspec.Struct, frozen=True, kw_only=True):
    """A combination rule, then a server optimiser.  Stateless: the state goes in and comes out."""

    rule: Rule
    optimiser: ServerOptimiser = Plain()
    robust: bool = False
    """Whether a minority of attackers leaves the result bounded by what honest clients sent."""

    def start(self, num_parameters: int) -> ServerState:
        """The state before the first round."""
        return self.optimiser.start(num_parameters)

    def aggregate(self, weights: Vector, updates: Sequence[Update], state: ServerState) -> tuple[Vector, ServerState]:
        """New global weights, float32 [P], and the next state, from the accepted updates of one round.

        Raises InvalidTensor for updates that do not fit together or are not finite, or when the new weights leave float32's range
        (keep the old ones, and the old state), InvalidInput for too few updates.
        """
        with np.errstate(over="ignore"):
            moved, after = self.optimiser.apply(weights, self.rule.combine(updates), state)
        defect = find_defect(moved, weights.size)
        if defect is not None:
            raise InvalidTensor(f"new weights are {defect} after {len(updates)} updates; keep the weights and state before this round")
        return moved, after


AGGREGATORS: dict[str, Aggregator] = {
    "fedadam": Aggregator(rule=WeightedMean(), optimiser=Adam()),
    "fedavg": Aggregator(rule=WeightedMean()),
    "fedavgm": Aggregator(rule=WeightedMean(), optimiser=Momentum()),
    "krum": Aggregator(rule=Krum(), robust=True),
    "median": Aggregator(rule=CoordinateMedian(), robust=True),
    "multi_krum": Aggregator(rule=Krum(num_selected=None), robust=True),
    "norm_clipped": Aggregator(rule=NormClipped(), robust=True),
    "trimmed_mean": Aggregator(rule=TrimmedMean(), robust=True),
}
"""name -> aggregator with its usual settings; `fedavg` is the identity that the others are compared with."""


def find_aggregator(name: str) -> Aggregator:
    """The aggregator of that name.  Raises InvalidConfig naming those there are."""
    aggregator = AGGREGATORS.get(name)
    if aggregator is None:
        raise InvalidConfig(f"aggregator {name!r} does not exist; there is {', '.join(AGGREGATORS)}")
    return aggregator
