"""A training job on real processes over real sockets: rounds, a killed device that comes back, a killed root that goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runtime.errors import InvalidInput
from runtime.launch import RunningCluster, launch_cluster
from runtime.messages import DataSpec, FitJob, FitReport, LocalSpec, NetworkSpec, RoundRecord, TauSpec
from runtime.topology import Topology
from runtime.training.session import FitSession, assign_roles

JOB = FitJob(
    name="live",
    network=NetworkSpec(arguments={"width": 0.5}),
    data=DataSpec(num_clients=2),
    rounds=6,
    local=LocalSpec(learning_rate=0.05, momentum=0.9),
    compressor="topk10+ef",
    tau=TauSpec(tau=3),
    round_deadline_s=20.0,
)


@pytest.fixture(scope="module")
def cluster(digits_model: Path) -> Iterator[RunningCluster]:
    """Cloud, edge and two devices."""
    with launch_cluster(Topology(), digits_model, num_devices=2) as running:
        yield running


def places(cluster: RunningCluster, job: FitJob) -> FitSession:
    """A session with every node's role."""
    names = {config.listen: name for name, config in cluster.configs.items()}
    above = {name: names.get(config.upstream, "") for name, config in cluster.configs.items()}
    return FitSession(job, assign_roles(job, above, {name: config.listen for name, config in cluster.configs.items()}))


@pytest.mark.slow
def test_a_job_survives_whoever_is_killed(cluster: RunningCluster, tmp_path: Path) -> None:
    """kill -9 of a device and of the root: both are started again, and the job ends with every round recorded once."""
    job = msgspec.structs.replace(JOB, folder=str(tmp_path))
    killed: list[str] = []

    def on_record(record: RoundRecord, report: FitReport) -> None:
        victim = {2: "device-1", 4: "cloud"}.get(record.round)
        if victim is not None and victim not in killed:
            killed.append(victim)
            cluster.processes[victim].signal(signal.SIGKILL)
            cluster.restart(victim)

    with places(cluster, job) as session:
        ready = session.start()
        assert {name: one.num_parameters > 0 for name, one in ready.items()} == {
            "cloud": True, "edge-0": False, "device-0": True, "device-1": True,
        }  # fmt: skip
        report = session.run(on_record, timeout_s=100.0)
        session.stop()
    assert killed == ["device-1", "cloud"]
    assert report.phase == "done"
    assert [record.round for record in report.records] == [1, 2, 3, 4, 5, 6]
    assert report.records[-1].loss < report.records[0].loss
    full = 4 * ready["cloud"].num_parameters
    for record in report.records:
        assert record.down_bytes[0] > full * len(record.clients)
        assert 0 < record.up_bytes[0] < 0.5 * full * len(record.clients)  # a tenth of the values, with their indices
        assert record.device_joules > 0
    assert {path.name for path in tmp_path.iterdir()} == {"cloud", "device-0", "device-1"}


def test_what_no_node_can_do_is_refused_with_its_reason(cluster: RunningCluster) -> None:
    """A factory that is not there, a compressor that does not exist, data that cannot be divided."""
    for changes, reason in (
        ({"network": NetworkSpec(factory="nowhere:nothing")}, "cannot import 'nowhere'"),
        ({"compressor": "zip"}, "compressor 'zip' does not exist"),
        ({"data": DataSpec(num_clients=2, partition="subject")}, "only the phone-sensor set"),
    ):
        with places(cluster, msgspec.structs.replace(JOB, name=f"bad-{reason[:4]}", **changes)) as session:
            with pytest.raises(InvalidInput, match=reason):
                session.start()
            session.stop()
