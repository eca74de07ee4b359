"""`python -m benchmarks.fit_kills`: kill -9 of a client, an edge and the cloud while they train, against the same job undisturbed.

Live nodes, nothing emulated: a cloud, two edges, four devices; digits, Dirichlet(0.5).  Each victim is killed when a round's record
comes and started again at once, with nothing but its folder.  One round is lost when a client is away for longer than the round
takes; the root goes on after its last saved round.  About four minutes on two cores.
"""

from __future__ import annotations

import signal
import statistics
import tempfile
import time
from collections.abc import Sequence

import msgspec

from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import Architecture, DataSpec, FitJob, FitReport, NetworkSpec, RoundRecord, TauSpec
from runtime.models.build import ensure_model
from runtime.topology import Topology
from runtime.training.places import assign_roles
from runtime.training.session import FitSession

MODEL = "digits-cnn"
JOB = FitJob(
    network=NetworkSpec(arguments={"pool": 2}), data=DataSpec(num_clients=4), rounds=40, tau=TauSpec(tau=10), round_deadline_s=20.0
)
VICTIMS = {8: "device-1", 16: "edge", 24: "cloud"}
ARCHITECTURES: tuple[Architecture, ...] = ("federated", "hierarchical")
LAST = 5
"""Evaluations that are averaged: single ones vary by a point from round to round."""
TIMEOUT_S = 900.0


def play(nodes: RunningNodes, job: FitJob, victims: dict[int, str]) -> tuple[list[RoundRecord], float]:
    """All records, and how long the whole took."""
    left = dict(victims)

    def on_record(record: RoundRecord, report: FitReport) -> None:
        victim = left.pop(record.round, None)
        if victim is not None:
            nodes.processes[victim].signal(signal.SIGKILL)
            nodes.restart(victim)

    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        kept = msgspec.structs.replace(job, folder=folder)
        with FitSession(kept, assign_roles(kept, nodes.upstreams, nodes.addresses)) as session:
            session.start(timeout_s=TIMEOUT_S)
            report = session.run(on_record, timeout_s=TIMEOUT_S)
            session.stop()
    return list(report.records), time.perf_counter() - began_s


def row(name: str, records: Sequence[RoundRecord], lasted_s: float) -> str:
    """How it ended, and what was missing on the way."""
    missing = sum(len(record.missing) for record in records)
    return f"{name:<36}{len(records):>7}{accuracy(records):>10.1%}{records[-1].loss:>9.3f}{missing:>9}{lasted_s:>10.0f}"


def accuracy(records: Sequence[RoundRecord]) -> float:
    """Mean of the last evaluations."""
    return statistics.mean(record.accuracy for record in records[-LAST:] if record.accuracy is not None)


def main() -> None:
    killed = ", ".join(f"{victim} after round {number}" for number, victim in VICTIMS.items())
    print(f"kill -9: {killed}; test accuracy is the mean of the last {LAST} rounds; the aim is within 1 point")
    print(f"{'job':<36}{'rounds':>7}{'accuracy':>10}{'loss':>9}{'missing':>9}{'seconds':>10}")
    with launch_nodes(Topology(num_edges=2), ensure_model(MODEL), num_devices=JOB.data.num_clients, preload=False) as nodes:
        for architecture in ARCHITECTURES:
            job = msgspec.structs.replace(JOB, architecture=architecture)
            undisturbed, lasted_s = play(nodes, msgspec.structs.replace(job, name=f"{architecture}-undisturbed"), {})
            print(row(f"{architecture}, undisturbed", undisturbed, lasted_s), flush=True)
            disturbed, lasted_s = play(nodes, msgspec.structs.replace(job, name=f"{architecture}-killed"), VICTIMS)
            print(row(f"{architecture}, killed and restarted", disturbed, lasted_s), flush=True)
            print(f"{architecture}: {100 * (accuracy(disturbed) - accuracy(undisturbed)):+.1f} points", flush=True)


if __name__ == "__main__":
    main()
