"""What a round of federated training takes besides local steps and the bytes' time on the links, and how that grows with clients.

Live nodes: a cloud, an edge and a device process for each client; digits, tau 10, batches of 32, 34,000 weights; each node keeps
its state on disk.  A round lasts from one record to the next.  `compute` is the slowest client's local steps, with the evaluation of
the round before beside them.

    loopback   nothing is emulated: whatever is not compute counts as overhead, sockets included.  All clients share the
               host's cores, so that compute grows with their number as well.
    waiting    the same with a target that nobody reaches: each round waits for the evaluation of the one before it.
    unjudged   the same without evaluations but the last.  Against `loopback`, what they take from clients on the same cores.
    calm       tiers and links EMULATED as that scenario has them: the time on the links, which is mostly emulated, does not count.

`longest` is the worst of the rounds; the first one is left out, in which torch warms up.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from envs.scenario import load_scenario
from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import DataSpec, FitJob, RoundRecord, TauSpec
from runtime.models.build import ensure_model
from runtime.topology import Topology
from runtime.training.places import assign_roles
from runtime.training.session import FitSession

MODEL = "digits-cnn"
NUM_CLIENTS = (2, 4, 8, 16, 32)
NUM_CALM_CLIENTS = 8
ROUNDS = 6
CALM_ROUNDS = 4
"""Of half a minute each: its devices are emulated to be slow."""
AIM = 0.05
JOB = FitJob(tau=TauSpec(tau=10), rounds=ROUNDS, join_deadline_s=600.0, round_deadline_s=600.0)
TIMEOUT_S = 1200.0


class Shares(NamedTuple):
    """Of one round, in seconds."""

    round_s: float
    compute_s: float
    links_s: float

    @property
    def overhead_s(self) -> float:
        """The rest."""
        return self.round_s - self.compute_s - self.links_s


def play(topology: Topology, num_clients: int, **changes: object) -> list[RoundRecord]:
    """A job with these fields changed, on nodes of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        launch_nodes(topology, ensure_model(MODEL), num_devices=num_clients, preload=False) as nodes,
    ):
        job = msgspec.structs.replace(JOB, data=DataSpec(num_clients=num_clients), folder=folder, **changes)
        return _run(job, nodes)


def _run(job: FitJob, nodes: RunningNodes) -> list[RoundRecord]:
    with FitSession(job, assign_roles(job, nodes.upstreams, nodes.addresses)) as session:
        session.start(timeout_s=TIMEOUT_S)
        report = session.run(timeout_s=TIMEOUT_S)
        session.stop()
    return list(report.records)


def divide(records: Sequence[RoundRecord], *, emulated: bool) -> list[Shares]:
    """Rounds between two records; without emulation the links' time is overhead like any other."""
    return [
        Shares(record.at_s - before.at_s, record.compute_s, record.transfer_s if emulated else 0.0)
        for before, record in itertools.pairwise(records)
    ]


def row(name: str, num_clients: int, rounds: Sequence[Shares]) -> str:
    """Medians over rounds."""
    round_s, compute_s, links_s = (statistics.median(values) for values in zip(*rounds, strict=True))
    overhead_s = statistics.median(one.overhead_s for one in rounds)
    share = statistics.median(one.overhead_s / one.round_s for one in rounds)
    longest_s = max(one.overhead_s for one in rounds)
    return (
        f"{name:<10}{num_clients:>8}{round_s:>10.3f}{compute_s:>11.3f}{links_s:>9.3f}{overhead_s * 1e3:>13.1f}"
        f"{longest_s * 1e3:>12.1f}{share:>9.1%}{overhead_s / num_clients * 1e3:>16.1f}"
    )


def main() -> None:
    print(f"A round's overhead: {ROUNDS} rounds, medians; the aim at {NUM_CALM_CLIENTS} clients is a share below {AIM:.0%}")
    print(
        f"{'links':<10}{'clients':>8}{'round s':>10}{'compute s':>11}{'links s':>9}{'overhead ms':>13}{'longest ms':>12}{'share':>9}"
        f"{'ms per client':>16}"
    )
    for num_clients in NUM_CLIENTS:
        print(row("loopback", num_clients, divide(play(Topology(), num_clients), emulated=False)), flush=True)
    waiting = divide(play(Topology(), NUM_CALM_CLIENTS, target_accuracy=1.0), emulated=False)
    print(row("waiting", NUM_CALM_CLIENTS, waiting), flush=True)
    unjudged = divide(play(Topology(), NUM_CALM_CLIENTS, evaluate_every=ROUNDS), emulated=False)
    print(row("unjudged", NUM_CALM_CLIENTS, unjudged), flush=True)
    calm = divide(play(load_scenario("calm").topology, NUM_CALM_CLIENTS, rounds=CALM_ROUNDS), emulated=True)
    print(row("calm", NUM_CALM_CLIENTS, calm), flush=True)


if __name__ == "__main__":
    main()
