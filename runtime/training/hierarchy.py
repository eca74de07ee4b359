"""Hierarchical averaging: clients under edges, edges under a cloud.

    step      1 .. tau1   .. 2 tau1 ..        .. tau2 tau1
    after it      edge       edge                cloud          (an edge average comes first, then the cloud's)

Source: Liu et al., "Client-Edge-Cloud Hierarchical Federated Learning", ICC 2020, Algorithm 1 (HierFAVG; kappa1, kappa2 there).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from runtime.errors import InvalidConfig, InvalidInput
from runtime.training.aggregation.means import WeightedMean
from runtime.training.update import Update, UpdateHeader, Vector

Level = Literal["local", "edge", "cloud"]
"""How far up weights are averaged after a local step."""


class HierarchySchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to average, and where.  (1 edge round, any tau1) is FedAvg with tau1 local steps."""

    steps_per_edge_round: int
    """tau1: local steps between two edge averages."""
    edge_rounds_per_cloud_round: int
    """tau2: edge averages between two cloud averages."""

    def __post_init__(self) -> None:
        if self.steps_per_edge_round < 1 or self.edge_rounds_per_cloud_round < 1:
            raise InvalidConfig(
                f"a hierarchy averages after >= 1 steps and >= 1 edge rounds, got {self.steps_per_edge_round} "
                f"and {self.edge_rounds_per_cloud_round}"
            )

    def level_after(self, num_steps: int) -> Level:
        """Where weights are averaged once `num_steps` >= 1 local steps have been made since the start."""
        if num_steps < 1:
            raise InvalidInput(f"levels follow a local step, got {num_steps} steps; expected >= 1")
        if num_steps % (self.steps_per_edge_round * self.edge_rounds_per_cloud_round) == 0:
            return "cloud"
        return "edge" if num_steps % self.steps_per_edge_round == 0 else "local"


def edge_update(edge: str, cloud_weights: Vector, edge_weights: Vector, header_of: Sequence[UpdateHeader]) -> Update:
    """What an edge reports to the cloud: its weights minus the cloud's, for all examples and steps of its clients' last headers."""
    if not header_of:
        raise InvalidInput(f"edge {edge!r} has heard no client; expected one header or more")
    header = UpdateHeader(
        client=edge,
        round=header_of[0].round,
        num_examples=sum(header.num_examples for header in header_of),
        num_local_steps=max(header.num_local_steps for header in header_of),
    )
    return Update(header=header, delta=np.subtract(edge_weights, cloud_weights, dtype=np.float32))


def average_in_two_levels(weights: Vector, groups: Mapping[str, Sequence[Update]]) -> Vector:
    """New cloud weights [P] when each edge averages its clients once and the cloud the edges: equals flat averaging."""
    rule = WeightedMean()
    of_edges = [
        edge_update(edge, weights, weights + rule.combine(updates), [update.header for update in updates])
        for edge, updates in groups.items()
    ]
    return np.asarray(weights + rule.combine(of_edges)).astype(np.float32)
