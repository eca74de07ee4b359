"""A training job on real processes over real sockets: rounds, a killed device that comes back, a killed root that goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import pytest

from runtime.errors import InvalidInput, RoundFailed
from runtime.launch import RunningNodes
from runtime.messages import DataSpec, FitJob, FitReport, LocalSpec, NetworkSpec, RoundRecord, TauSpec
from tests.runtime.training.live import open_session

JOB = FitJob(
    name="live",
    network=NetworkSpec(arguments={"width": 0.5, "pool": 2}),
    data=DataSpec(num_clients=3),
    rounds=4,
    local=LocalSpec(learning_rate=0.05, momentum=0.9),
    compressor="topk10+ef",
    tau=TauSpec(tau=3),
    round_deadline_s=10.0,
    max_failed_rounds=5,
)


def test_what_no_node_can_do_is_refused_with_its_reason(cluster: RunningNodes) -> None:
    """A factory that is not there, a compressor that does not exist, data that cannot be divided."""
    for changes, reason in (
        ({"network": NetworkSpec(factory="nowhere:nothing")}, "cannot import 'nowhere'"),
        ({"compressor": "zip"}, "compressor 'zip' does not exist"),
        ({"data": DataSpec(num_clients=3, partition="subject")}, "only the phone-sensor set"),
    ):
        job = msgspec.structs.replace(JOB, name=f"bad-{reason[:4]}", **changes)
        with open_session(cluster, job) as session, pytest.raises(InvalidInput, match=reason):
            session.start()


@pytest.mark.slow
def test_a_session_decides_tau_while_the_job_runs(cluster: RunningNodes) -> None:
    """The rounds after what was said take as many steps; what no round could take, or no rule allows, is refused."""
    job = msgspec.structs.replace(JOB, name="decided", rounds=3, tau=TauSpec(rule="decided", tau=1, max_tau=10))
    with open_session(cluster, job) as session:
        session.start()
        session.set_tau(4)
        report = session.run(timeout_s=60.0)
        with pytest.raises(InvalidInput, match=r"1\.\.10; got 11"):
            session.set_tau(11)
    taus = [record.tau for record in report.records]
    assert set(taus) <= {1, 4}
    assert taus[-1] == 4
    with open_session(cluster, JOB) as session, pytest.raises(InvalidInput, match="'fixed'"):
        session.set_tau(2)


@pytest.mark.slow
def test_a_job_survives_whoever_is_killed(cluster: RunningNodes, tmp_path: Path) -> None:
    """kill -9 of a device and then of the root, both started again: every round is recorded once, and the device takes part again."""
    job = msgspec.structs.replace(JOB, folder=str(tmp_path))
    killed: list[str] = []

    def on_record(record: RoundRecord, report: FitReport) -> None:
        victim = {1: "device-1", 2: "cloud"}.get(record.round)
        if victim is not None and victim not in killed:
            killed.append(victim)
            cluster.processes[victim].signal(signal.SIGKILL)
            cluster.restart(victim)

    with open_session(cluster, job) as session:
        ready = session.start()
        assert {name: one.num_parameters > 0 for name, one in ready.items()} == {
            "cloud": True, "edge": False, "device": True, "device-1": True, "device-2": True,
        }  # fmt: skip
        report = session.run(on_record, timeout_s=100.0)
    assert killed == ["device-1", "cloud"]
    assert report.phase == "done"
    assert [record.round for record in report.records] == [1, 2, 3, 4]
    assert report.records[-1].loss < report.records[0].loss
    assert any("device-1" in record.clients for record in report.records[2:])
    full = 4 * ready["cloud"].num_parameters
    for record in report.records:
        assert record.down_bytes[0] > full * len(record.clients)
        assert 0 < record.up_bytes[0] < 0.5 * full * len(record.clients)  # a tenth of the values, with their indices
        assert record.device_joules > 0
    assert {path.name for path in tmp_path.iterdir()} == {"cloud", "device", "device-1", "device-2"}


@pytest.mark.slow
def test_masked_rounds_of_two_are_not_unmasked(cluster: RunningNodes) -> None:
    """kill -9 of one of three devices: what the other two send is nobody's to know, and the job ends with its reason."""
    changes = {"secure_aggregation": True, "rounds": 1000, "round_deadline_s": 3.0, "step_deadline_s": 1.0, "max_failed_rounds": 2}
    job = msgspec.structs.replace(JOB, name="masked", compressor="identity", **changes)
    records: list[RoundRecord] = []

    def on_record(record: RoundRecord, report: FitReport) -> None:
        records.append(record)
        cluster.processes["device-2"].signal(signal.SIGKILL)

    with open_session(cluster, job) as session:
        session.start()
        with pytest.raises(RoundFailed, match="secure aggregation lost the round: too_few_keys"):
            session.run(on_record, timeout_s=60.0)
    assert records
    for record in records:
        assert record.clients == ("device", "device-1", "device-2")
        assert record.masking is not None
        assert min(record.masking.up_bytes, record.masking.down_bytes) > 500
        assert record.masking.exchange_s > 0 < record.masking.reveal_s
