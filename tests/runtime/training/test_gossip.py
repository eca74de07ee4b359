"""Gossip conserves the weighted mean and brings nodes together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidInput, InvalidTensor
from runtime.training.gossip import (
    GossipState,
    can_send,
    consensus_distance,
    random_peer,
    receive,
    ring_peer,
    send_half,
    start_gossip,
    weighted_consensus,
)

NUM_NODES = 4
EVENTS = st.lists(st.tuples(st.integers(0, NUM_NODES - 1), st.integers(0, 2**16), st.booleans()), max_size=40)


def starting_nodes(seed: int = 0) -> list[GossipState]:
    """Nodes with unlike vectors."""
    rng = np.random.default_rng(seed)
    return [start_gossip(rng.normal(size=3).astype(np.float32), NUM_NODES) for _ in range(NUM_NODES)]


def test_one_exchange_by_hand() -> None:
    """Weights 1/2 and 1/2: the receiver ends at (1/2 0 + 1/4 6) / (3/4) = 2 with weight 3/4."""
    sender, receiver = (GossipState(weight=0.5, vector=np.float32([value])) for value in (6.0, 0.0))
    kept, message = send_half(sender)
    mixed = receive(receiver, message)
    assert (kept.weight, float(kept.vector[0])) == (0.25, 6.0)
    assert (mixed.weight, float(mixed.vector[0])) == (0.75, pytest.approx(2.0))


@settings(max_examples=60)
@given(EVENTS, st.integers(0, 100))
def test_mass_is_conserved_and_distance_never_grows(events: list[tuple[int, int, bool]], seed: int) -> None:
    """Whatever is sent to whom, in whatever order it arrives, messages under way counted."""
    nodes, under_way = starting_nodes(seed), list[tuple[int, GossipState]]()
    before, distance = weighted_consensus(nodes), consensus_distance(nodes)
    for node, pick, sends in events:
        if sends or not under_way:
            nodes[node], message = send_half(nodes[node])
            under_way.append((random_peer(node, NUM_NODES, np.random.default_rng(pick)), message))
        else:
            target, message = under_way.pop(pick % len(under_way))
            nodes[target] = receive(nodes[target], message)
        everything = nodes + [message for _, message in under_way]
        assert sum(state.weight for state in everything) == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(weighted_consensus(everything), before, atol=1e-5)
        assert consensus_distance(everything) <= distance + 1e-5
        distance = consensus_distance(everything)


@pytest.mark.parametrize("topology", ["ring", "random"])
def test_nodes_agree_in_the_end(topology: str) -> None:
    """After fifty rounds of everybody sending, the distance is a thousandth of what it was, at the mean."""
    nodes, rng = starting_nodes(), np.random.default_rng(1)
    mean, distance = np.mean([node.vector for node in nodes], axis=0), consensus_distance(nodes)
    for _ in range(50):
        for node in range(NUM_NODES):
            peer = ring_peer(node, NUM_NODES) if topology == "ring" else random_peer(node, NUM_NODES, rng)
            nodes[node], message = send_half(nodes[node])
            nodes[peer] = receive(nodes[peer], message)
    assert consensus_distance(nodes) < distance / 1000
    for node in nodes:
        np.testing.assert_allclose(node.vector, mean, atol=1e-2)


def test_a_message_taken_back_changes_nothing() -> None:
    """What cannot be delivered is mixed in again by its sender."""
    state = GossipState(weight=0.25, vector=np.float32([1.5, -2.0]))
    kept, message = send_half(state)
    again = receive(kept, message)
    assert again.weight == state.weight
    np.testing.assert_array_equal(again.vector, state.vector)


def test_peers_are_others_and_all_of_them() -> None:
    """Never itself; the ring goes round."""
    rng = np.random.default_rng(0)
    assert {random_peer(1, 4, rng) for _ in range(200)} == {0, 2, 3}
    assert [ring_peer(node, 3) for node in range(3)] == [1, 2, 0]
    with pytest.raises(InvalidInput, match="two nodes or more"):
        ring_peer(0, 1)


def test_bad_messages_never_mix() -> None:
    """NaN, another length, or a weight that is none."""
    state = start_gossip(np.zeros(2, np.float32), 2)
    for vector in (np.float32([np.nan, 0]), np.float32([1, 2, 3])):
        with pytest.raises(InvalidTensor, match="gossip message is"):
            receive(state, GossipState(weight=0.5, vector=vector))
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="gossip weight"):
            GossipState(weight=weight, vector=state.vector)


def test_a_node_that_gave_almost_all_away_stops_sending() -> None:
    """Halves do not shrink until they vanish."""
    state = start_gossip(np.zeros(1, np.float32), 2)
    for _ in range(100):
        if can_send(state):
            state, _ = send_half(state)
    assert 2.0**-66 < state.weight < 2.0**-63
