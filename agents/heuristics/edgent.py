"""The deepest exit that meets the deadline, with the cut that serves it best at the current bandwidth.

Source: Li, Zhou, Chen, "Edge Intelligence: On-Demand Deep Learning Model Co-Inference with Device-Edge
Synergy", MECOMM 2018, algorithm 1 (static configuration).  For exits i from the deepest to the first

    p* = argmin_p A_{i,p};  if A_{i,p*} <= t_req: take (i, p*)          A = T_device + T_edge + D_p / B

and if no exit meets t_req, the least A of all (the paper returns nothing).  Layers before the cut run on the
device here; in the paper they run on the edge.  As in the paper: measured stage times and bandwidth, no queues.
"""

from __future__ import annotations

import numpy as np

from agents.heuristics.neurosurgeon import SLOWEST_BYTES_PER_S
from agents.heuristics.selection import Choices, device_to_edge
from agents.policy import Policy
from envs.costs import CostModel
from runtime.messages import Decision, Observation


class Edgent:
    """Static configuration, searched anew for every request."""

    name = "edgent"

    def __init__(self, decisions: CostModel) -> None:
        exits = range(len(decisions.exit_ends))
        self._choices = Choices(device_to_edge(decisions, exits, "edgent (fp32, cuts (j, end))"))
        self._compute_s = self._choices.device_s + self._choices.edge_s
        self._exit = np.asarray([decision.exit for decision in self._choices.decisions])

    def reset(self, seed: int) -> None:
        """Nothing to draw."""

    def decide(self, observation: Observation) -> Decision:
        """The best cut of the deepest exit that has one in time; else the fastest of all."""
        bytes_per_s = max(observation.links[0].rate_bytes_per_s, SLOWEST_BYTES_PER_S)
        latency_s = self._compute_s + self._choices.uplink_bytes / bytes_per_s
        in_time = (latency_s <= observation.deadline_s) & self._choices.reachable(observation)
        if not in_time.any():
            return self._choices.least(latency_s, observation)
        deepest = self._exit[in_time].max()
        return self._choices.least(np.where(in_time & (self._exit == deepest), latency_s, np.inf), observation)


def edgent(decisions: CostModel, catalogue: CostModel) -> Policy:
    """Over every single cut of every exit, in the catalogue or not."""
    return Edgent(decisions)
