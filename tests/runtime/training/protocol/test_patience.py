"""Weights are given again to those who seem not to have them, and links that take long are not filled with copies."""

from __future__ import annotations

from collections import Counter

import pytest

from runtime.codec import unseal
from runtime.messages import Join, Message, Round
from runtime.training.protocol.patience import AGAIN_S, Patience
from runtime.training.protocol.rounds import Rounds
from tests.runtime.training.protocol.test_contributions import Root
from tests.runtime.training.protocol.world import LINK_S, World, flat_world, job

WEIGHTS_S = 6.0


def given_at(patience: Patience, until_s: int) -> list[int]:
    """When something is given to a peer that asks each second."""
    return [at_s for at_s in range(until_s) if patience.try_again(float(at_s))]


def test_each_copy_is_waited_for_twice_as_long() -> None:
    """2 s, 4 s, 8 s after the last one."""
    patience = Patience(0.0)
    assert given_at(patience, 20) == [2, 6, 14]


def test_an_answer_tells_what_the_links_take() -> None:
    """Nine seconds from the first copy, three of them with the peer: 6 s, and 2 more, for the next one."""
    patience = Patience(0.0)
    assert patience.try_again(2.0)
    patience.answered(9.0, 3.0)
    patience.give(10.0)
    assert given_at(patience, 20) == [18]


def join(rounds: Rounds, at_s: float, peer: bytes = b"a") -> int:
    """Client a says that it is idle; how many rounds it is given."""
    return len(rounds.join(Join(job="j", client="a", num_examples=10), peer, at_s))


def test_another_process_is_given_the_round_at_once() -> None:
    """It was started anew; the same one has to be without it for a while."""
    rounds = Root().rounds
    assert join(rounds, 100.5) == 0
    assert join(rounds, 101.0, b"another") == 1
    assert join(rounds, 101.5, b"another") == 0
    assert join(rounds, 101.0 + AGAIN_S, b"another") == 1


def test_who_has_answered_is_given_nothing_more() -> None:
    """Whether its update counted, is being read, or was refused; nor is anybody after the deadline."""
    for at_s in (103.0, 104.0):
        root = Root()
        root.read(root.hear("a", 101.0))
        assert join(root.rounds, at_s) == 0
        refused = Root()
        refused.read(refused.hear("a", 101.0, compute_s=-1.0))
        assert join(refused.rounds, at_s) == 0
    assert join(Root().rounds, 105.0) == 0


def test_a_client_that_joins_again_after_its_answer_keeps_its_times() -> None:
    """Down and up took 1 s, and another client keeps the round open: that second is in the record."""
    root = Root()
    root.read(root.hear("a", 103.0, dwell_s=2.0, compute_s=1.9))
    join(root.rounds, 104.0)
    root.rounds.poll(105.0)
    collected = root.rounds.take(105.0)
    assert (collected.transfer_s, collected.compute_s, collected.missing) == (pytest.approx(1.0), 1.9, ("b",))


def slow_links(world: World) -> Counter[str]:
    """Weights take 6 s to each device, one copy after the other; how many copies go to each."""
    copies: Counter[str] = Counter()
    free_at_s: dict[str, float] = {}

    def link_s(source: str, target: str, frames: list[bytes | memoryview]) -> float:
        message: Message = unseal([bytes(frame) for frame in frames])[0]
        if not isinstance(message, Round) or source != "edge-0":
            return LINK_S
        copies[target] += 1
        free_at_s[target] = max(world.now_s, free_at_s.get(target, 0.0)) + WEIGHTS_S
        return free_at_s[target] - world.now_s

    world.link_s = link_s
    return copies


def test_slow_links_are_not_filled_with_copies() -> None:
    """Six rounds of weights that take 6 s: copies go out in the first, when nobody knows that yet, and few then."""
    world = flat_world(job(rounds=6, round_deadline_s=100.0))
    copies = slow_links(world)
    world.start()
    report = world.run(until_s=300.0)
    assert report.phase == "done"
    assert all(record.clients == ("device-0", "device-1") for record in report.records)
    assert all(6 <= count <= 9 for count in copies.values())
    assert [record.down_bytes[0] for record in report.records[2:]] == 4 * [min(record.down_bytes[0] for record in report.records)]


@pytest.mark.parametrize("architecture", ["gossip", "local"])
def test_peers_are_given_their_first_weights_once_and_not_each_second(architecture: str) -> None:
    """They ask until they have them; one that is started anew after it has told of itself is given weights at once."""
    world = flat_world(job(architecture=architecture, rounds=300))
    copies = slow_links(world)
    world.start()
    world.run(until_s=WEIGHTS_S + 1.0)
    assert all(1 <= count <= 3 for count in copies.values())
    copies.clear()
    world.at(30.0, lambda: world.restart("device-1"))
    world.at(30.0, lambda: world.start("device-1"))
    world.run(until_s=30.5)
    assert copies == {"device-1": 1}
