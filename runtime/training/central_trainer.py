"""What centralised training computes: clients cut their examples into pieces, the root takes steps on all of them.

A round is `tau` steps of K B examples, where K clients have uploaded theirs and B is the job's batch size.  A federated round
of K clients makes the same number of steps one after the other and sees the same number of examples, so that records compare
round by round; with tau 1, equal parts and FedAvg both take the same expected step.
Source: the equivalence at one local step: McMahan et al., AISTATS 2017 (arXiv:1602.05629), section 2 (FedSGD).
"""

from __future__ import annotations

import time

import msgspec
import numpy as np

from runtime.codecs.parcel import pack, unpack
from runtime.errors import InvalidCheckpoint, InvalidInput, InvalidTensor
from runtime.files import write_atomically
from runtime.models.examples import Examples
from runtime.training import flat
from runtime.training.data.job import load_job_data
from runtime.training.local import LocalTrainer
from runtime.training.protocol.central_tasks import (
    CentralDone,
    CentralSteps,
    PackedExamples,
    PackExamples,
    StoredExamples,
    StoreExamples,
)
from runtime.training.protocol.tasks import Prepare, Prepared, Save, Saved
from runtime.training.received_examples import ReceivedExamples
from runtime.training.steps import AfterStep
from runtime.training.trainer import Trainer, judge

PIECE_BYTES = 1 << 20
"""Of images in one message: seconds on a slow link, so that a lost one costs little and requests get through in between."""
OPTIMISER_NAME = "optimiser.safetensors"


class ExampleSource:
    """A client's trainer: it has the examples and no network."""

    def __init__(self, prepare: Prepare) -> None:
        self._examples = load_job_data(prepare.job.data).part(prepare.client)
        self.prepared = Prepared(job=prepare.job.name, num_examples=len(self._examples.labels))
        """What the node is told."""

    def pack(self, task: PackExamples) -> PackedExamples:
        """As many examples as fit in a piece, at least one.  Raises InvalidInput behind the last one."""
        images, labels = self._examples.images, self._examples.labels
        if not 0 <= task.first < len(labels):
            raise InvalidInput(f"examples are numbered 0..{len(labels) - 1}, got {task.first}")
        stop = task.first + max(1, PIECE_BYTES // max(1, images[0].nbytes))
        return PackedExamples(job=task.job, first=task.first, parcel=pack([images[task.first : stop], labels[task.first : stop]]))


class CentralRootTrainer(Trainer):
    """The root's trainer: keeps what comes, and trains on it."""

    def __init__(self, prepare: Prepare, after_step: AfterStep) -> None:
        super().__init__(prepare, after_step)
        data = load_job_data(prepare.job.data)
        raw = self._folder / "examples" if self._folder is not None else None
        self._received = ReceivedExamples(data.test, len(data.classes), raw)
        self._steps: LocalTrainer | None = None
        self._clients: tuple[str, ...] = ()
        self._saved_steps = self._read_steps()
        self.prepared = msgspec.structs.replace(self.prepared, held=self._received.all_held())

    def store(self, task: StoreExamples) -> StoredExamples:
        """Keep a piece.  What is no piece of this job's, or does not fit on the disk, comes back as an error."""
        error, new_bytes = "", 0
        try:
            tensors = unpack(task.parcel).tensors
            if len(tensors) != 2:
                raise InvalidTensor(f"a piece has images and labels, got {len(tensors)} tensors")
            piece = Examples(images=tensors[0].copy(), labels=tensors[1].copy())
            new_bytes = self._received.add(task.client, task.first, task.total, piece)
        except (InvalidTensor, ValueError, OSError) as exc:
            error = str(exc)
        held = self._received.held(task.client)
        return StoredExamples(job=task.job, client=task.client, held=held, new_bytes=new_bytes, error=error)

    def central_steps(self, task: CentralSteps) -> CentralDone:
        """Train and judge.  Raises InvalidTensor when the weights are not finite any more."""
        began_s = time.perf_counter()
        result = self._trainer_of(task.clients).run(task.weights, task.tau, lambda kind: self._after_step(task.round, kind))
        compute_s = time.perf_counter() - began_s
        weights = flat.to_vector(self._network)
        if not np.isfinite(weights).all():
            raise InvalidTensor("weights have infinities or NaN after the round's steps; lower the learning rate")
        accuracy = loss = None
        if task.evaluate and self._test is not None:
            accuracy, loss = judge(self._network, self._test)
        return CentralDone(
            job=task.job, round=task.round, weights=weights, loss=result.loss, accuracy=accuracy, test_loss=loss, compute_s=compute_s
        )

    def save(self, task: Save) -> Saved:
        """The optimiser's state first: the records, written last, name the attempt that it is of.  Raises OSError."""
        if self._folder is None or self._steps is None:
            return super().save(task)
        name = f"{task.attempt}.{OPTIMISER_NAME}"
        write_atomically(self._folder / name, self._steps.save())
        saved = super().save(task)
        for old in self._folder.glob(f"*.{OPTIMISER_NAME}"):
            if old.name != name:
                old.unlink(missing_ok=True)
        return saved

    def _read_steps(self) -> bytes:
        """The optimiser's state of an earlier start of the job; empty where there is none."""
        if self._folder is None or not self.prepared.records:
            return b""
        try:
            return (self._folder / f"{self.prepared.attempt}.{OPTIMISER_NAME}").read_bytes()
        except OSError as exc:
            raise InvalidCheckpoint(f"the optimiser's state of job {self._job.name!r} cannot be read: {exc}") from exc

    def _trainer_of(self, clients: tuple[str, ...]) -> LocalTrainer:
        """The same optimiser goes on when the examples of more clients have come."""
        if self._steps is None or clients != self._clients:
            if self._steps is not None:
                self._saved_steps = self._steps.save()
            spec = msgspec.structs.replace(self._job.local, batch_size=self._job.local.batch_size * len(clients))
            self._steps, self._clients = LocalTrainer(self._network, self._received.joined(clients), spec), clients
            if self._saved_steps:
                self._steps.load(self._saved_steps)
        return self._steps
