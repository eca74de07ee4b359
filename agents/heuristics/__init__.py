"""Heuristics: what a learned policy has to beat, and what stands in for it when it cannot decide."""

from __future__ import annotations

from collections.abc import Callable

from agents.heuristics.cloud_only import cloud_only
from agents.heuristics.device_only import device_only
from agents.heuristics.edge_only import edge_only
from agents.heuristics.edgent import edgent
from agents.heuristics.greedy import greedy
from agents.heuristics.neurosurgeon import neurosurgeon
from agents.heuristics.random_choice import random_choice
from agents.policy import Policy
from envs.costs import CostModel

__all__ = ["HEURISTICS"]

HEURISTICS: dict[str, Callable[[CostModel, CostModel], Policy]] = {
    "cloud-only": cloud_only,
    "device-only": device_only,
    "edge-only": edge_only,
    "edgent": edgent,
    "greedy": greedy,
    "neurosurgeon": neurosurgeon,
    "random": random_choice,
}
"""name -> factory(cost model of all legal decisions, cost model of the catalogue's)"""
