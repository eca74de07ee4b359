"""`python -m benchmarks.transfer [SENSORS_ARCHIVE]`: federated training with little data, from scratch and from a base.

Two target tasks with trainers and frames as nodes have them, in one process:

    digits     5..9, four clients of ten examples; the root's base knows 0..4
    sensors    twelve people, twenty windows of each; the root's base knows the other eleven   (needs the archive)

Accuracy on the target's test split and bytes on the uplink (both directions, all clients) after some rounds; mean over seeds.
Takes a few minutes on one core, and is therefore not among those that `make bench` runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from runtime.codec import num_bytes, seal
from runtime.codecs.parcel import pack
from runtime.messages import Contribution, DataSpec, DistilSpec, FitJob, LocalSpec, NetworkSpec, Round, TauSpec, TransferSpec
from runtime.training.protocol.tasks import Aggregate, Decode, Evaluate, LocalSteps, Prepare
from runtime.training.trainer import Trainer
from runtime.training.update import Update

SEEDS = range(5)
SHOWN = (1, 2, 5, 10, 20)
NUM_SUBJECTS = 23


class Point(NamedTuple):
    """After a round."""

    accuracy: float
    num_bytes: int


def play(job: FitJob) -> Iterator[Point]:
    """Rounds of federated averaging, by trainers of a root and of every client."""
    root = Trainer(Prepare(job=job, role="root", node="root", client=-1, slowdown=1.0), lambda number: None)
    names = [f"client-{index}" for index in range(job.data.num_clients)]
    clients = [
        Trainer(Prepare(job=job, role="client", node=name, client=index, slowdown=1.0), lambda number: None)
        for index, name in enumerate(names)
    ]
    weights, base, sent = root.prepared.weights, root.prepared.base, 0
    assert weights is not None
    for number in range(job.rounds):
        updates = []
        for name, client in zip(names, clients, strict=True):
            down = pack([weights, base] if base is not None and not number else [weights])
            message = Round(request_id=1, job=job.name, client=name, round=number, tau=job.tau.tau, reply_within_s=60.0)
            update, up = _answer(job, root, client, LocalSteps(
                job=job.name, round=number, tau=job.tau.tau, weights=down, compare=False, sent_round=number - 1
            ))  # fmt: skip
            sent += num_bytes(seal(message, down)) + up
            updates.append(update)
        done = root.aggregate(Aggregate(job=job.name, weights=weights, updates=tuple(updates)))
        assert done.weights is not None
        weights = done.weights
        judged = root.evaluate(Evaluate(job=job.name, weights=weights))
        assert judged.accuracy is not None
        yield Point(judged.accuracy, sent)


def _answer(job: FitJob, root: Trainer, client: Trainer, steps: LocalSteps) -> tuple[Update, int]:
    """A client's update as the root reads it, and its bytes."""
    done = client.local_steps(steps)
    assert done.header is not None
    message = Contribution(request_id=1, job=job.name, header=done.header, compressor=job.compressor, parameters=done.parameters)
    read = root.decode(Decode(contribution=message, parcel=done.parcel))
    assert read.update is not None, read.error
    return read.update, num_bytes(seal(message, done.parcel))


def digits(seed: int) -> FitJob:
    """Another task: other classes."""
    network = NetworkSpec(arguments={"num_classes": 5})
    data = DataSpec(num_clients=4, partition="iid", classes=tuple("56789"), examples_per_client=10, seed=seed)
    return FitJob(network=network, data=data, rounds=SHOWN[-1], local=LocalSpec(learning_rate=0.05), tau=TauSpec(tau=5), seed=seed)


def digits_variants() -> dict[str, TransferSpec | None]:
    """The base has seen all training examples of the other classes."""
    data = DataSpec(classes=tuple("01234"), num_clients=1, partition="iid")
    return {
        "from scratch": None,
        "3 layers tuned": TransferSpec(frozen=0, tuned=3, data=data),
        "2 frozen, 1 tuned": TransferSpec(frozen=2, tuned=1, data=data),
        "3 layers frozen": TransferSpec(frozen=3, data=data),
    }


def people(seed: int) -> list[int]:
    """Of the archive, shuffled: the first twelve are clients."""
    return [int(number) for number in np.random.default_rng(seed).permutation(NUM_SUBJECTS) + 1]


def sensors(archive: str, seed: int) -> FitJob:
    """The same task, other people."""
    network = NetworkSpec(factory="runtime.models.networks.compact:activity_cnn")
    chosen = tuple(people(seed)[:12])
    data = DataSpec(source=f"sensors:{archive}", partition="subject", num_clients=12, subjects=chosen, examples_per_client=20, seed=seed)
    return FitJob(network=network, data=data, rounds=SHOWN[-1], local=LocalSpec(learning_rate=0.02), tau=TauSpec(tau=5), seed=seed)


def sensors_variants(archive: str, seed: int) -> dict[str, TransferSpec | None]:
    """The base has seen all windows of the other people."""
    data = DataSpec(source=f"sensors:{archive}", partition="subject", subjects=tuple(people(seed)[12:]))
    return {
        "from scratch": None,
        "from scratch, distilled": TransferSpec(frozen=0, data=data, distil=DistilSpec()),
        "4 layers frozen": TransferSpec(frozen=4, data=data),
        "4 layers frozen, distilled": TransferSpec(frozen=4, data=data, distil=DistilSpec()),
        "4 layers frozen, head tuned": TransferSpec(frozen=4, tuned=1, data=data),
    }


def _with(job: FitJob, transfer: TransferSpec | None) -> FitJob:
    return msgspec.structs.replace(job, transfer=transfer)


def compare(title: str, jobs: dict[str, list[FitJob]]) -> None:
    """A row for each variant: accuracy after so many rounds, and the uplink's bytes after the first and the last."""
    print(f"\n{title}: accuracy after rounds " + ", ".join(str(number) for number in SHOWN) + f" (mean of {len(SEEDS)} seeds +- sd)")
    for name, variants in jobs.items():
        runs = [list(play(job)) for job in variants]
        accuracy = np.array([[points[number - 1].accuracy for number in SHOWN] for points in runs])
        figures = "  ".join(f"{mean:6.1%} +-{sd:5.1%}" for mean, sd in zip(accuracy.mean(axis=0), accuracy.std(axis=0), strict=True))
        print(f"{name:28s} {figures}   {runs[0][0].num_bytes / 1e3:8.1f} kB {runs[0][-1].num_bytes / 1e3:9.1f} kB", flush=True)


def main(arguments: list[str]) -> int:
    """Print both tables."""
    compare("digits", {name: [_with(digits(seed), transfer) for seed in SEEDS] for name, transfer in digits_variants().items()})
    for archive in arguments:
        variants = {seed: sensors_variants(archive, seed) for seed in SEEDS}
        names = variants[0]
        compare("sensors", {name: [_with(sensors(archive, seed), variants[seed][name]) for seed in SEEDS] for name in names})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
