"""A training job in one process: the nodes' own trainers, compressors and aggregation, without nodes and links.

What a technique does to the accuracy is what it does on live nodes, and many seeds are affordable; bytes are those of the frames that
would be sent.  Nothing here is timed: who needs seconds gives a `Clock`, and they are called modelled.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import torch

from runtime.codec import num_bytes, seal
from runtime.codecs.parcel import pack
from runtime.messages import Contribution, DataSpec, FitJob, LocalSpec, NetworkSpec, TauSpec
from runtime.models.datasets import load_dataset
from runtime.training import flat
from runtime.training.central_trainer import CentralRootTrainer, ExampleSource
from runtime.training.protocol.central_tasks import CentralSteps, PackExamples, StoreExamples
from runtime.training.protocol.tasks import Aggregate, Aggregated, Decode, Decoded, LocalSteps, Prepare
from runtime.training.tau_control import AdaptiveTau, FixedTau, RoundReport, TauController
from runtime.training.trainer import Trainer, judge

JOB = FitJob(
    network=NetworkSpec(arguments={"pool": 2}),
    data=DataSpec(num_clients=8, alpha=0.5),
    rounds=60,
    local=LocalSpec(),
    tau=TauSpec(tau=10),
    evaluate_every=1 << 20,
)
"""What the benchmarks of training vary: digits, 8 clients, Dirichlet(0.5), 600 steps of each; averaged to 32 x 32 to be quick."""


class Clock(NamedTuple):
    """What a round takes, MODELLED: seconds of a local step on a device, and of everything else."""

    step_s: float
    exchange_s: float

    def round_s(self, tau: int) -> float:
        """Devices compute at the same time, and for as long."""
        return tau * self.step_s + self.exchange_s


class Played(NamedTuple):
    """What became of a job."""

    accuracy: float
    """On the test split."""
    train_loss: float
    """On all clients' examples."""
    validation: float
    """Accuracy on the validation split, by which settings are chosen."""
    up_bytes: int
    """Of all contributions, headers included."""
    taus: tuple[int, ...]
    """Of each round."""
    seconds: float
    """MODELLED."""


def seeded_job(job: FitJob, seed: int) -> FitJob:
    """Another partition, other first weights, other minibatches."""
    data, local = msgspec.structs.replace(job.data, seed=seed), msgspec.structs.replace(job.local, seed=1000 * seed)
    return msgspec.structs.replace(job, data=data, local=local, seed=seed)


def play(job: FitJob, controller: TauController | None = None, clock: Clock | None = None) -> Played:
    """A federated or a centralised job to its end; with a controller and a clock tau is the controller's, and so is the end."""
    torch.set_num_threads(1)
    if job.architecture == "centralised":
        return _play_centralised(job)
    return _Federated(job).play(controller or FixedTau(tau=job.tau.tau), clock or Clock(0.0, 0.0))


class _Federated:
    """All clients of a job, and its root."""

    def __init__(self, job: FitJob) -> None:
        self._job = job
        self._clients = [
            Trainer(Prepare(job=job, role="client", node=f"device-{index}", client=index, slowdown=1.0), lambda *_: None)
            for index in range(job.data.num_clients)
        ]
        self._root = Trainer(Prepare(job=job, role="root", node="cloud", client=-1, slowdown=1.0), lambda *_: None)
        assert self._root.prepared.weights is not None
        self._weights: np.ndarray = self._root.prepared.weights
        self._up_bytes = 0

    def play(self, controller: TauController, clock: Clock) -> Played:
        state, taus = controller.start(), list[int]()
        while len(taus) < self._job.rounds and not state.finished:
            taus.append(state.tau)
            done = self._round(len(taus), state.tau, compare=isinstance(controller, AdaptiveTau))
            report = RoundReport(
                step_cost=clock.step_s, aggregation_cost=clock.exchange_s, spent=clock.round_s(state.tau), surface=done.surface
            )
            state = controller.next(state, report)
            if not state.discard and done.weights is not None:
                self._weights = done.weights
        return _judged(self._job, self._root, self._weights, self._up_bytes, tuple(taus), sum(map(clock.round_s, taus)))

    def _round(self, number: int, tau: int, *, compare: bool) -> Aggregated:
        decoded = [self._contribution(client, number, tau, compare=compare) for client in self._clients]
        task = Aggregate(
            job=self._job.name,
            weights=self._weights,
            updates=tuple(one.update for one in decoded if one.update is not None),
            estimates=tuple(one.estimate for one in decoded if one.estimate is not None),
            gradients=tuple(one.gradient for one in decoded if one.gradient is not None),
        )
        return self._root.aggregate(task)

    def _contribution(self, client: Trainer, number: int, tau: int, *, compare: bool) -> Decoded:
        """One client's update as the root reads it from the frames."""
        weights = pack([self._weights])
        steps = LocalSteps(job=self._job.name, round=number, tau=tau, weights=weights, compare=compare, sent_round=number - 1)
        done = client.local_steps(steps)
        assert done.header is not None
        contribution = Contribution(
            request_id=1 << 50,
            job=self._job.name,
            header=done.header,
            compressor=self._job.compressor,
            parameters=done.parameters,
            estimate=done.estimate,
        )
        self._up_bytes += num_bytes(seal(contribution, done.parcel))
        decoded = self._root.decode(Decode(contribution=contribution, parcel=done.parcel))
        assert decoded.update is not None, decoded.error
        return decoded


def _play_centralised(job: FitJob) -> Played:
    root = CentralRootTrainer(Prepare(job=job, role="root", node="cloud", client=-1, slowdown=1.0), lambda *_: None)
    names = tuple(f"device-{index}" for index in range(job.data.num_clients))
    up_bytes = sum(_upload(root, job, index, name) for index, name in enumerate(names))
    assert root.prepared.weights is not None
    weights: np.ndarray = root.prepared.weights
    for number in range(job.rounds):
        done = root.central_steps(CentralSteps(job=job.name, round=number, tau=job.tau.tau, weights=weights, clients=names, evaluate=False))
        assert done.weights is not None
        weights = done.weights
    return _judged(job, root, weights, up_bytes, job.rounds * (job.tau.tau,), 0.0)


def _upload(root: CentralRootTrainer, job: FitJob, client: int, name: str) -> int:
    """All examples of a client go to the root; their bytes."""
    source = ExampleSource(Prepare(job=job, role="client", node=name, client=client, slowdown=1.0))
    first, total, up_bytes = 0, source.prepared.num_examples, 0
    while first < total:
        parcel = source.pack(PackExamples(job=job.name, first=first)).parcel
        up_bytes += sum(len(frame) for frame in parcel.frames)
        first = root.store(StoreExamples(job=job.name, client=name, first=first, total=total, parcel=parcel)).held.num
    return up_bytes


def _judged(job: FitJob, root: Trainer, weights: np.ndarray, up_bytes: int, taus: tuple[int, ...], seconds: float) -> Played:
    network, splits = root.network, load_dataset(job.data.source).splits
    flat.from_vector(network, weights)
    (accuracy, _), (validation, _), (_, loss) = (judge(network, splits[name]) for name in ("test", "validation", "train"))
    return Played(accuracy, loss, validation, up_bytes, taus, seconds)
