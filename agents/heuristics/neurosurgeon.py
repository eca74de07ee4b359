"""One cut between the device and one server, by least predicted latency at the current bandwidth.

Source: Kang et al., "Neurosurgeon", ASPLOS 2017, algorithm 1, latency mode.  For candidates j = 0..N (0: all
on the server, N: all on the device)

    j* = argmin_j  sum_{i<=j} TM_i  +  TU_j  +  sum_{i>j} TC_i(K)        TU_j = D_j / B,  TU_N = 0

with B the current bandwidth and K the server's load, reported to periodic pings.  Here the server is the edge
and a FIFO queue, so that its load is the backlog it reports: sum TC_i(K) = K + sum TC_i.
As in the paper: the full model only, and neither the device's own queue, nor the link's, nor round trips count.
"""

from __future__ import annotations

import numpy as np

from agents.heuristics.selection import Choices, device_to_edge
from agents.policy import Policy
from envs.costs import CostModel
from runtime.messages import Decision, Observation

SLOWEST_BYTES_PER_S = 1.0
"""A bandwidth estimate of nothing still has to divide."""


class Neurosurgeon:
    """Latency mode."""

    name = "neurosurgeon"

    def __init__(self, decisions: CostModel) -> None:
        last = len(decisions.exit_ends) - 1
        self._choices = Choices(device_to_edge(decisions, (last,), "neurosurgeon (fp32, cuts (j, end))"))
        self._compute_s = self._choices.device_s + self._choices.edge_s

    def reset(self, seed: int) -> None:
        """Nothing to draw."""

    def decide(self, observation: Observation) -> Decision:
        """The cut with the least predicted latency."""
        bytes_per_s = max(observation.links[0].rate_bytes_per_s, SLOWEST_BYTES_PER_S)
        load_s = observation.nodes[1].backlog_s
        latency_s = self._compute_s + self._choices.uplink_bytes / bytes_per_s + np.where(self._choices.leaves_device, load_s, 0.0)
        return self._choices.least(latency_s, observation)


def neurosurgeon(decisions: CostModel, catalogue: CostModel) -> Policy:
    """Over every single cut of the full model, in the catalogue or not."""
    return Neurosurgeon(decisions)
