"""What the heuristics share: picking decisions out of a cost model, and knowing which of them can be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import NoDecision
from envs.costs import CostModel
from runtime.errors import InvalidDecision
from runtime.messages import Decision, Observation

FULL_VARIANT = "fp32"
"""The variant of the heuristics that know of no others."""


class Choices:
    """D decisions as arrays, and the best of those that an observation lets one reach."""

    def __init__(self, cost_model: CostModel) -> None:
        self.cost_model = cost_model
        self.decisions = cost_model.decisions
        self.device_s = cost_model.mean("device_s")
        self.edge_s = cost_model.mean("edge_s")
        self.uplink_bytes = cost_model.mean("uplink_bytes")
        (p, q), ends = np.array([d.cuts for d in self.decisions]).T, np.array([cost_model.exit_ends[d.exit] for d in self.decisions])
        self.leaves_device, self._crosses_wan = p < ends, q < ends

    def reachable(self, observation: Observation) -> NDArray[np.bool_]:
        """[D]: which decisions need only tiers that answer; the cloud lies behind the edge."""
        _, edge, cloud = observation.nodes
        to_edge = edge.reachable
        reachable: NDArray[np.bool_] = ~((self.leaves_device & (not to_edge)) | (self._crosses_wan & (not (to_edge and cloud.reachable))))
        return reachable

    def least(self, values: NDArray[np.floating[Any]], observation: Observation) -> Decision:
        """The reachable decision with the least value; the first of equals.  Raises NoDecision when none is reachable."""
        allowed = np.where(self.reachable(observation), values, np.inf)
        best = int(np.argmin(allowed))
        if not np.isfinite(allowed[best]):
            raise NoDecision(f"none of {len(self.decisions)} decisions is reachable for request {observation.request_id}")
        return self.decisions[best]


class Static:
    """Decides the same for every request, reachable or not."""

    def __init__(self, name: str, decision: Decision) -> None:
        self.name = name
        self.decision = decision

    def reset(self, seed: int) -> None:
        """Nothing to draw."""

    def decide(self, observation: Observation) -> Decision:
        """Always the same decision."""
        return self.decision


def select(cost_model: CostModel, keep: Callable[[Decision, int], bool], what: str) -> tuple[Decision, ...]:
    """Decisions for which `keep(decision, end)` holds, `end` being the stages its exit needs.

    Raises InvalidDecision when there is none; `what` names them for the message.
    """
    found = tuple(decision for decision in cost_model.decisions if keep(decision, cost_model.exit_ends[decision.exit]))
    if not found:
        raise InvalidDecision(f"the cost model of {cost_model.model!r} has no decision for {what} among its {cost_model.num_decisions}")
    return found


def full_model(cost_model: CostModel, place: Callable[[int], tuple[int, int]], what: str) -> Decision:
    """The decision of the full fp32 model with cuts `place(end)`.  Raises InvalidDecision when the model has none."""
    last = len(cost_model.exit_ends) - 1
    return select(cost_model, lambda d, end: is_plain(d) and d.exit == last and d.cuts == place(end), what)[0]


def device_to_edge(cost_model: CostModel, exits: Sequence[int], what: str) -> CostModel:
    """The fp32 decisions that split once, between device and edge, for these exits: cuts (j, end), j = 0..end."""
    wanted = frozenset(exits)
    return cost_model.restrict(select(cost_model, lambda d, end: is_plain(d) and d.exit in wanted and d.cuts[1] == end, what))


def is_plain(decision: Decision) -> bool:
    """Whether it uses nothing that the classical heuristics do not know: fp32, no codec, no early exit."""
    return decision.variant == FULL_VARIANT and decision.codec == "identity" and not decision.early_exit
