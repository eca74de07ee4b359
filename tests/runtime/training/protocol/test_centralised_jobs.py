"""Centralised training by messages: every example goes up once, and the root learns from all of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.messages import FitJob, Message, Upload
from runtime.models.examples import Examples
from runtime.training import flat
from runtime.training.data.job import load_job_data
from runtime.training.local import LocalTrainer
from runtime.training.trainer import make_job_network
from tests.runtime.training.protocol.wires import Wires, make_job, wires


def pooled(job: FitJob) -> Examples:
    """All clients' examples, client after client."""
    data = load_job_data(job.data)
    parts = [data.part(client) for client in range(job.data.num_clients)]
    return Examples(images=np.concatenate([p.images for p in parts]), labels=np.concatenate([p.labels for p in parts]))


def alone(job: FitJob) -> np.ndarray:
    """Weights float32 [P] of as many steps with a whole round's batch on all examples."""
    network = make_job_network(job)
    spec = msgspec.structs.replace(job.local, batch_size=job.local.batch_size * job.data.num_clients)
    LocalTrainer(network, pooled(job), spec).run(flat.to_vector(network), job.rounds * job.tau.tau)
    return flat.to_vector(network)


def uploads(nodes: Wires) -> list[int]:
    """First examples of the pieces that reached the root."""
    return [sent.first for _, target, sent in nodes.delivered if isinstance(sent, Upload) and target == "cloud"]


def test_the_root_learns_from_everybodys_examples() -> None:
    """The same weights as one trainer that has them all; every example's bytes are counted, in the first record."""
    job = make_job("centralised", num_clients=2)
    with wires(job) as nodes:
        report = nodes.run()
        np.testing.assert_allclose(nodes.weights, alone(job), atol=1e-6)
    examples = pooled(job)
    assert [record.raw_bytes for record in report.records] == [examples.images.nbytes + examples.labels.nbytes, 0]
    assert report.records[0].up_bytes[0] > report.records[0].raw_bytes
    assert report.records[0].clients == ("device-0", "device-1")


def test_only_what_has_not_arrived_is_sent_again() -> None:
    """The second piece is lost once: in the end every piece has come once, in order."""
    lost: list[Message] = []

    def fate(source: str, target: str, message: Message) -> int:
        if isinstance(message, Upload) and message.first and not lost:
            lost.append(message)
            return 0
        return 1

    with wires(make_job("centralised"), fate) as nodes:
        assert nodes.run().phase == "done"
    pieces = uploads(nodes)
    assert len(pieces) > 1
    assert pieces == sorted(set(pieces))


def test_a_piece_that_comes_twice_counts_once() -> None:
    """Every message arrives twice: no example is there twice."""
    job = make_job("centralised")
    with wires(job, lambda source, target, message: 2 if isinstance(message, Upload) else 1) as nodes:
        report = nodes.run()
        np.testing.assert_allclose(nodes.weights, alone(job), atol=1e-6)
    assert report.records[0].raw_bytes == sum(array.nbytes for array in (pooled(job).images, pooled(job).labels))


@pytest.mark.parametrize("keeps", [True, False])
def test_a_root_that_dies_during_the_upload_goes_on_where_it_was(tmp_path: Path, keeps: bool) -> None:
    """Killed after the first piece: with a folder it asks for the second one, without for both."""
    job = make_job("centralised", folder=str(tmp_path) if keeps else "")
    with wires(job) as nodes:
        nodes.run(lambda nodes: len(uploads(nodes)) == 1)
        nodes.restart("cloud")
        assert nodes.run().phase == "done"
        assert uploads(nodes).count(0) == (1 if keeps else 2)
        np.testing.assert_allclose(nodes.weights, alone(job), atol=1e-6)


def test_a_client_that_dies_during_the_upload_goes_on_where_it_was() -> None:
    """It remembers nothing: the root says what is missing."""
    with wires(make_job("centralised")) as nodes:
        nodes.run(lambda nodes: len(uploads(nodes)) == 1)
        nodes.restart("device-0")
        assert nodes.run().phase == "done"
        assert uploads(nodes).count(0) == 1


def test_training_begins_without_a_silent_client() -> None:
    """After the deadline a quorum is enough; who is missing is in the records."""
    job = make_job("centralised", num_clients=2)
    with wires(job, lambda source, target, message: 0 if source == "device-1" else 1) as nodes:
        report = nodes.run()
    assert [(record.clients, record.missing) for record in report.records] == [(("device-0",), ("device-1",))] * 2


def test_without_a_quorum_the_job_fails_with_a_reason() -> None:
    """Nobody uploads anything."""
    with wires(make_job("centralised"), lambda source, target, message: 0 if isinstance(message, Upload) else 1) as nodes:
        report = nodes.run()
    assert (report.phase, report.round) == ("failed", 0)
    assert "nobody uploaded" in report.message


def test_a_job_goes_on_where_it_was_left(tmp_path: Path) -> None:
    """All nodes end after the first of two rounds and come back: nothing is uploaded again, velocities are as they were."""
    job = make_job("centralised", folder=str(tmp_path))
    with wires(msgspec.structs.replace(job, rounds=1)) as nodes:
        nodes.run()
    with wires(job) as nodes:
        report = nodes.run()
        np.testing.assert_allclose(nodes.weights, alone(job), atol=1e-6)
    assert [record.round for record in report.records] == [1, 2]
    assert not uploads(nodes)
