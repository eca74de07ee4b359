"""Centralised, split, transfer and local jobs on real processes over real sockets, against the same steps in one process."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from runtime.launch import RunningNodes
from runtime.messages import DataSpec, FitJob, FitReport, LocalSpec, NetworkSpec, TauSpec, TransferSpec
from runtime.training import flat
from runtime.training.data.job import load_job_data
from runtime.training.local import LocalTrainer
from runtime.training.trainer import make_job_network
from tests.runtime.training.live import open_session

STAGES = [[{"channels": 4, "stride": 2}], [{"channels": 6, "stride": 2}]]
JOB = FitJob(
    name="live",
    network=NetworkSpec(
        factory="runtime.models.network:conv_chain", arguments={"stages": STAGES, "exits": [{"end": 2}], "num_classes": 10}
    ),
    data=DataSpec(num_clients=1),
    rounds=3,
    local=LocalSpec(learning_rate=0.05, momentum=0.9),
    tau=TauSpec(tau=3),
)


def run(cluster: RunningNodes, job: FitJob) -> FitReport:
    """The job from its start to its end."""
    with open_session(cluster, job) as session:
        session.start()
        return session.run(timeout_s=60.0)


def check_weights(job: FitJob) -> None:
    """What the root has left on disk is what so many steps on the same examples give in this process."""
    network = make_job_network(job)
    LocalTrainer(network, load_job_data(job.data).part(0), job.local).run(flat.to_vector(network), job.rounds * job.tau.tau)
    (path,) = (Path(job.folder) / "cloud").glob("*.state.safetensors")
    np.testing.assert_allclose(load_file(path)["weights"], flat.to_vector(network), atol=1e-5)


@pytest.mark.slow
def test_split_training_is_training(cluster: RunningNodes, tmp_path: Path) -> None:
    """Nine steps over the links: weights as of nine steps of one network, labels counted, the activations on the uplink alone."""
    job = msgspec.structs.replace(JOB, architecture="split", cut=1, folder=str(tmp_path))
    report = run(cluster, job)
    check_weights(job)
    assert [record.round for record in report.records] == [1, 2, 3]
    for record in report.records:
        assert record.clients == ("device",)
        assert record.raw_bytes == 3 * 32 * 8
        assert record.up_bytes[0] > record.up_bytes[1] > 0
        assert min(record.compute_s, record.transfer_s, record.device_joules) > 0
        assert record.accuracy is not None


@pytest.mark.slow
def test_a_frozen_base_crosses_the_links_once(cluster: RunningNodes, tmp_path: Path) -> None:
    """Trained at the root before the first round; from the second on less crosses, down as up, than the whole network has."""
    transfer = TransferSpec(frozen=2, num_steps=5)
    data = DataSpec(num_clients=1, root_fraction=0.2, examples_per_client=64)
    network = NetworkSpec(arguments={"width": 0.5})
    job = msgspec.structs.replace(JOB, transfer=transfer, data=data, network=network, folder=str(tmp_path))
    report = run(cluster, job)
    first, second, third = report.records
    whole = 4 * flat.num_elements(make_job_network(job))
    assert first.down_bytes[0] > whole > second.down_bytes[0] == third.down_bytes[0]
    assert first.up_bytes[0] < whole
    assert first.base_s > 0 == second.base_s
    assert [path.parent.name for path in sorted(tmp_path.glob("*/base.safetensors"))] == ["cloud", "device"]


@pytest.mark.slow
def test_centralised_training_is_training(cluster: RunningNodes, tmp_path: Path) -> None:
    """All examples go up before the first round, and never again; the root's steps are those of one trainer."""
    job = msgspec.structs.replace(JOB, architecture="centralised", folder=str(tmp_path))
    report = run(cluster, job)
    check_weights(job)
    examples = load_job_data(job.data).part(0)
    assert [record.raw_bytes for record in report.records] == [examples.images.nbytes + examples.labels.nbytes, 0, 0]
    assert report.records[0].up_bytes[0] > report.records[0].raw_bytes
    assert report.records[0].device_joules + report.records[1].device_joules > 0
    assert report.records[0].transfer_s > 0
    assert all(record.accuracy is not None for record in report.records)


@pytest.mark.slow
def test_a_job_ends_that_tells_of_every_other_round(cluster: RunningNodes) -> None:
    """Fewer records than rounds are all there are: an observer writes one for each round that is evaluated."""
    report = run(cluster, msgspec.structs.replace(JOB, architecture="local", evaluate_every=2))
    assert (report.phase, report.round, [record.round for record in report.records]) == ("done", 3, [2, 3])
