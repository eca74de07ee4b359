"""Sum-weight gossip: nodes average their weights pairwise, without a server and without waiting for answers.

    send:     w = w / 2, and (x, w) goes to one peer
    receive:  x = (w x + w_in x_in) / (w + w_in),  w = w + w_in

Over all nodes and messages under way, sum w and sum w x never change, so that the weighted mean is kept
while each mix pulls nodes towards it.
Source: Blot et al., "Gossip training for deep learning", 2016, section 3 (GoSGD); Kempe et al., FOCS 2003 (push-sum).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidInput, InvalidTensor
from runtime.training.update import Vector, find_defect

MIN_WEIGHT = 2.0**-64
"""A node that sent so often without hearing from anybody does not send on: its halves would vanish in float arithmetic."""


class GossipState(msgspec.Struct, frozen=True, kw_only=True):
    """A node's share of the whole, or one message of it: both are a weight and a vector."""

    weight: float
    vector: Vector
    """Float32 [P]."""

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < float("inf"):
            raise InvalidInput(f"a gossip weight must be finite and > 0, got {self.weight}")


def start_gossip(vector: Vector, num_nodes: int) -> GossipState:
    """A node's first state: an equal share of a total weight of 1."""
    return GossipState(weight=1.0 / num_nodes, vector=vector)


def can_send(state: GossipState) -> bool:
    """Whether half of the weight is still worth sending."""
    return state.weight >= MIN_WEIGHT


def send_half(state: GossipState) -> tuple[GossipState, GossipState]:
    """(what the node keeps, what goes to a peer).  A message must be delivered or taken back (`receive`), or its mass is lost."""
    half = msgspec.structs.replace(state, weight=state.weight / 2.0)
    return half, half


def receive(state: GossipState, message: GossipState) -> GossipState:
    """Mix a message in.  Raises InvalidTensor for a vector of another length or one that is not finite."""
    defect = find_defect(message.vector, state.vector.size)
    if defect is not None:
        raise InvalidTensor(f"gossip message is {defect}: got {message.vector.dtype} {message.vector.shape}, expected {state.vector.shape}")
    total = state.weight + message.weight
    share = message.weight / total
    mixed = (1.0 - share) * state.vector.astype(np.float64) + share * message.vector.astype(np.float64)
    return GossipState(weight=total, vector=mixed.astype(np.float32))


def ring_peer(node: int, num_nodes: int) -> int:
    """The next node round the ring."""
    _check_peers(num_nodes)
    return (node + 1) % num_nodes


def random_peer(node: int, num_nodes: int, rng: np.random.Generator) -> int:
    """Any other node, each equally likely."""
    _check_peers(num_nodes)
    return int((node + 1 + rng.integers(num_nodes - 1)) % num_nodes)


def _check_peers(num_nodes: int) -> None:
    if num_nodes < 2:
        raise InvalidInput(f"gossip needs two nodes or more, got {num_nodes}")


def weighted_consensus(states: Sequence[GossipState]) -> np.ndarray:
    """sum w x / sum w over nodes and messages under way: float64 [P], the value that gossip conserves."""
    weights = np.array([state.weight for state in states])
    return np.asarray(weights / weights.sum() @ np.stack([state.vector for state in states]).astype(np.float64))


def consensus_distance(states: Sequence[GossipState]) -> float:
    """Weighted root mean square distance from the weighted mean; no send or receive makes it grow."""
    weights = np.array([state.weight for state in states])
    vectors = np.stack([state.vector for state in states]).astype(np.float64)
    squared = np.square(vectors - weighted_consensus(states)).sum(axis=1)
    return float(np.sqrt(weights @ squared / weights.sum()))
