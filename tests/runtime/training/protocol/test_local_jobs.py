"""Clients that train for themselves, and jobs whose root is the edge: what leaves whom, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.errors import InvalidCheckpoint, InvalidInput
from runtime.messages import Ack, FitJob, FitReport, Gossip, Join, Message, PeerState, Round
from runtime.training import flat
from runtime.training.data.job import load_job_data
from runtime.training.local import LocalTrainer
from runtime.training.places import assign_roles
from runtime.training.trained import TRAINED_NAME, keep_trained, read_trained
from runtime.training.trainer import judge, make_job_network
from tests.runtime.training.protocol.wires import make_job, wires
from tests.runtime.training.protocol.world import flat_world, job, optimum


def test_clients_on_their_own_descend_on_their_own() -> None:
    """After many steps each is at its own optimum; the links carried starting signals and measurements, and no byte of the job."""
    world = flat_world(job(architecture="local", rounds=20))
    seen: set[type] = set()

    def watch(source: str, target: str, message: Message) -> bool:
        seen.add(type(message))
        return False

    world.lose = watch
    world.start()
    report = world.run(until_s=300.0)
    assert (report.phase, len(report.records)) == ("done", 20)
    apart = np.sqrt(np.mean([np.square(optimum(k) - (optimum(0) + optimum(1)) / 2).sum() for k in range(2)]))
    assert report.records[-1].consensus_distance == pytest.approx(apart, rel=1e-4)
    assert all(record.up_bytes == record.down_bytes == (0, 0) and record.raw_bytes == 0 for record in report.records)
    assert Gossip not in seen
    assert seen >= {Join, Round, PeerState, Ack}


def test_a_client_that_comes_back_alone_begins_anew() -> None:
    """Nobody else's weights are its own: it is handed the beginning again, and missed meanwhile."""
    world = flat_world(job(architecture="local", rounds=30, round_deadline_s=1.0))
    handed: list[int] = []

    def watch(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and target == "device-1":
            handed.append(message.round)
        return False

    world.lose = watch
    world.start()
    world.at(1.0, lambda: world.kill("device-1"))
    world.at(2.0, lambda: world.restart("device-1"))
    world.at(2.1, lambda: world.start("device-1"))
    report = world.run(until_s=300.0)
    assert report.phase == "done"
    assert set(handed) == {0}
    assert len(handed) > 1
    assert any("device-1" in record.missing for record in report.records)


def test_work_between_two_reports_is_reported_with_the_next() -> None:
    """Measured every other round: compute and energy of both rounds are in each record (a step takes 0.1 s, and a joule a second)."""
    world = flat_world(job(architecture="local", rounds=4, evaluate_every=2))
    world.start()
    records = world.run(until_s=300.0).records
    assert [record.round for record in records] == [2, 4]
    assert [record.compute_s for record in records] == pytest.approx([0.2, 0.2])
    assert [record.device_joules for record in records] == pytest.approx([0.4, 0.4])


def test_each_client_is_trained_as_if_it_were_alone(tmp_path: Path) -> None:
    """Its weights on disk are those of one trainer with its part; the record's accuracy is the mean of all."""
    given = make_job("local", 2, folder=str(tmp_path))
    with wires(given) as nodes:
        (record,) = nodes.run().records
    accuracies = []
    for client in range(2):
        data, network = load_job_data(given.data), make_job_network(given)
        trainer = LocalTrainer(network, data.part(client), msgspec.structs.replace(given.local, seed=given.local.seed + client))
        weights = flat.to_vector(network)
        for _ in range(given.rounds):
            weights = weights + trainer.run(weights, given.tau.tau).update
        np.testing.assert_allclose(read_trained(tmp_path / f"device-{client}"), weights, atol=1e-6)
        flat.from_vector(network, weights)
        accuracies.append(judge(network, data.test)[0])
    assert record.accuracy == pytest.approx(np.mean(accuracies), abs=0.006)
    assert record.up_bytes == (0, 0)


@pytest.mark.parametrize("architecture", ["federated", "gossip"])
def test_an_edge_above_all_does_what_a_cloud_would(architecture: str) -> None:
    """The same weights round by round; the cloud is given no role, and nothing crosses the wan."""
    runs: dict[str, tuple[list[np.ndarray], FitReport]] = {}
    for root in ("cloud", "edge"):
        world = flat_world(job(architecture=architecture, peers="ring", root=root, rounds=4))
        world.start()
        report = world.run(until_s=300.0)
        runs[root] = ([weights for _, weights in world.trajectory], report)
        assert (world.nodes["cloud"].part.job == "") == (root == "edge")
    if architecture == "federated":
        np.testing.assert_allclose(runs["cloud"][0], runs["edge"][0])
        for cloud, edge in zip(runs["cloud"][1].records, runs["edge"][1].records, strict=True):
            assert cloud.up_bytes[0] == edge.up_bytes[0] > 0
            assert cloud.up_bytes[1] > 0
            assert cloud.down_bytes[1] > 0
    assert all(record.up_bytes[1] == record.down_bytes[1] == 0 for record in runs["edge"][1].records)
    assert runs["edge"][1].phase == "done"


def test_raw_data_may_go_no_further_than_the_edge() -> None:
    """A centralised job at the edge: examples cross the uplink and not the wan."""
    given = make_job("centralised", root="edge")
    places = assign_roles(given, {"cloud": "", "edge": "cloud", "device-0": "edge"}, {"cloud": "", "edge": "", "device-0": ""})
    assert {name: place.role for name, place in places.items()} == {"edge": "root", "device-0": "client"}


def test_what_has_no_root_at_the_edge_is_refused() -> None:
    """Architectures with somebody between, and two edges: each would be a root."""
    for architecture in ("hierarchical", "split"):
        with pytest.raises(ValueError, match="its root is the cloud"):
            FitJob(architecture=architecture, root="edge", cut=1 if architecture == "split" else 0)
    with pytest.raises(ValueError, match="no compressor"):
        FitJob(architecture="local", compressor="qsgd8")
    two = {"cloud": "", "edge": "cloud", "edge-1": "cloud", "device-0": "edge", "device-1": "edge-1"}
    with pytest.raises(InvalidInput, match="below one root"):
        assign_roles(job(root="edge"), two, dict.fromkeys(two, ""))


def test_weights_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    """An empty folder, and a torn file; what was kept comes back as it was."""
    with pytest.raises(InvalidCheckpoint, match="no trained weights"):
        read_trained(tmp_path)
    keep_trained(tmp_path, np.arange(3, dtype=np.float32))
    np.testing.assert_array_equal(read_trained(tmp_path), np.arange(3, dtype=np.float32))
    whole = (tmp_path / TRAINED_NAME).read_bytes()
    (tmp_path / TRAINED_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidCheckpoint, match="no trained weights"):
        read_trained(tmp_path)
