"""Gossip as machines: peers agree although nobody averages for them, and lost messages do no harm."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from runtime.codec import num_bytes, unseal
from runtime.messages import FitJob, Gossip, LocalSpec, Message, PeerState, Round
from tests.runtime.training.protocol.world import LINK_S, World, flat_world, job, optimum


def gossip_job(num_clients: int = 4, **changes: object) -> FitJob:
    base = job(architecture="gossip", rounds=12, data=msgspec.structs.replace(job().data, num_clients=num_clients))
    return msgspec.structs.replace(base, **changes)


@pytest.mark.parametrize("peers", ["ring", "random"])
def test_peers_come_to_agree(peers: str) -> None:
    """With steps that get smaller they stay near the mean of their optima, and far nearer each other than alone."""
    given = gossip_job(peers=peers, rounds=30, local=LocalSpec(learning_rate=0.1))
    world = flat_world(given)
    world.start()
    report = world.run(until_s=300.0)
    assert report.phase == "done"
    assert [record.round for record in report.records] == list(range(1, 31))
    alone = np.sqrt(np.mean([np.square(optimum(k) - np.mean([optimum(j) for j in range(4)], axis=0)).sum() for k in range(4)]))
    last = report.records[-1]
    assert last.consensus_distance is not None
    assert last.consensus_distance < 0.7 * alone
    np.testing.assert_allclose(world.trajectory[-1][1], np.mean([optimum(k) for k in range(4)], axis=0), atol=0.8)
    assert last.up_bytes[0] > 0
    assert last.up_bytes[1] == 0  # peers' halves turn round at the edge


def test_peers_that_want_the_same_end_at_the_same() -> None:
    """All optima equal: weights that began sqrt(3) away are there, and nobody is apart."""
    world = flat_world(gossip_job(rounds=20))
    world.optimum = lambda client: np.ones(3, dtype=np.float32)
    world.start()
    records = world.run(until_s=300.0).records
    np.testing.assert_allclose(world.trajectory[-1][1], 1.0, atol=1e-3)
    assert records[-1].consensus_distance is not None
    assert records[-1].consensus_distance < 1e-3


def test_lost_halves_and_lost_reports_do_not_stop_anybody() -> None:
    """A third of the messages is lost: every round is recorded, with those that were heard of."""
    world = flat_world(gossip_job(rounds=10, round_deadline_s=2.0))
    rng = np.random.default_rng(0)
    world.lose = lambda source, target, message: isinstance(message, Gossip | PeerState) and rng.random() < 0.15
    world.start()
    report = world.run(until_s=300.0)
    assert report.phase == "done"
    assert report.records[-1].round == 10
    assert any(record.missing for record in report.records)
    assert all(mass <= 1.0 + 1e-9 for mass in world.mass)


def test_a_peer_that_died_is_missed_and_begins_from_the_others_mean() -> None:
    """Restarted, it takes part again from the rounds that the others are at."""
    world = flat_world(gossip_job(rounds=40, round_deadline_s=1.0, local=LocalSpec(learning_rate=0.1)))
    handed: list[int] = []

    def watch(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and target == "device-3":
            handed.append(message.round)
        return False

    world.lose = watch
    world.start()
    world.at(1.0, lambda: world.kill("device-3"))
    world.at(2.0, lambda: world.restart("device-3"))
    world.at(2.1, lambda: world.start("device-3"))
    report = world.run(until_s=300.0)
    assert report.phase == "done"
    assert any("device-3" in record.missing for record in report.records)
    assert handed[0] == 0
    assert handed[-1] > 0


def test_peers_behind_two_edges_reach_each_other() -> None:
    """Halves between edges go through the cloud, which only passes them on."""
    below = {"device-0": "edge-0", "device-1": "edge-1"}
    world = World(gossip_job(2, rounds=6, peers="ring"), {"cloud": "", "edge-0": "cloud", "edge-1": "cloud", **below})
    crossed: list[str] = []

    def watch(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Gossip) and target.startswith("device"):
            crossed.append(target)
        return False

    world.lose = watch
    world.start()
    assert world.run(until_s=300.0).phase == "done"
    assert set(crossed) == {"device-0", "device-1"}


@pytest.mark.parametrize("root", ["cloud", "edge"])
def test_all_that_carries_weights_is_counted_on_each_link(root: str) -> None:
    """First weights and halves, by their frames; the wan has what passes the cloud, and nothing where the edge is above all."""
    below = {"device-0": "edge-0", "device-1": "edge-1" if root == "cloud" else "edge-0"}
    edges = {"edge-0": "cloud", "edge-1": "cloud"} if root == "cloud" else {"edge-0": "cloud"}
    world = World(gossip_job(2, rounds=6, peers="ring", root=root), {"cloud": "", **edges, **below})
    crossed = {"up wan": 0, "down wan": 0, "up uplink": 0, "down uplink": 0}

    def count(source: str, target: str, frames: list[bytes | memoryview]) -> float:
        if isinstance(unseal([bytes(frame) for frame in frames])[0], Gossip | Round):
            link = "wan" if "cloud" in (source, target) else "uplink"
            crossed[f"{'up' if world.upstreams[source] == target else 'down'} {link}"] += num_bytes(frames)
        return LINK_S

    world.link_s = count
    world.start()
    records = world.run(until_s=300.0).records
    assert crossed["down uplink"] > crossed["up uplink"] > 0
    assert (crossed["up wan"] > 0) == (root == "cloud")
    assert sum(record.up_bytes[1] for record in records) == crossed["up wan"]
    assert sum(record.down_bytes[1] for record in records) == crossed["down wan"]
    assert sum(record.up_bytes[0] for record in records) == crossed["up uplink"]
    last_half = crossed["down uplink"] - sum(record.down_bytes[0] for record in records)  # came after its peer's last report
    assert 0 <= last_half < 2 * max(record.up_bytes[0] for record in records)
    assert records[0].down_bytes[0] > records[0].up_bytes[0]  # the first weights are in the first record


@pytest.mark.parametrize(("kind", "dropped"), [(Gossip, {"dropped": 1}), (PeerState, {})])
def test_a_lost_half_is_counted_and_a_lost_measurement_is_not(kind: type[Message], dropped: dict[str, int]) -> None:
    """The socket tells device-0 that it did not take what it sent in its second round."""
    world = flat_world(gossip_job(2, rounds=6))
    sent: list[int] = []

    def tell(source: str, target: str, message: Message) -> bool:
        if source == "device-0" and isinstance(message, Gossip | PeerState) and isinstance(message, kind):
            sent.append(message.request_id)
            if len(sent) == 2:
                world.nodes[source].part.on_undelivered(message.request_id, world.now_s)
        return False

    world.lose = tell
    world.start()
    records = world.run(until_s=300.0).records
    assert [record.refused for record in records if record.refused] == ([dropped] if dropped else [])
