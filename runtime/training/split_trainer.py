"""What the two sides of a split network compute.  Needs the `train` extra.

    device: one half, its own examples.        server: for each client the other half, and room for the whole network.

Every client begins a round with the same weights and its own velocities, on both sides; the root averages what comes out.
That is SplitFedV1, and step for step what FedAvg would do with the same clients, each with a whole network.
A round that is begun again starts from the velocities and the examples with which it began the first time, so that whatever
was computed in between counts once.
Source: Thapa et al., "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022 (arXiv:2004.12088), algorithm 1.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
import torch
from torch import nn

from runtime.codecs.parcel import pack, unpack
from runtime.errors import InvalidInput, InvalidTensor
from runtime.files import write_atomically
from runtime.messages import FitJob, LocalSpec
from runtime.models.fitting import set_training_mode
from runtime.training import flat
from runtime.training.checkpoint import load_training, save_training
from runtime.training.compress import find_compressor
from runtime.training.data.job import load_job_data
from runtime.training.halves import cut_in_two
from runtime.training.minibatches import minibatch
from runtime.training.protocol.split_tasks import SplitDone, SplitTask, failed
from runtime.training.protocol.tasks import Prepare, Prepared
from runtime.training.split import Party, Tensors, loss_and_gradient
from runtime.training.step_randomness import step_randomness
from runtime.training.steps import AfterStep
from runtime.training.trainer import make_job_network


class Half:
    """One side of one client's network, with its optimiser."""

    def __init__(self, module: nn.Module, spec: LocalSpec, path: Path | None) -> None:
        self._module, self._seed, self._path = module, spec.seed, path
        self._optimiser = torch.optim.SGD(flat.trainable(module), lr=spec.learning_rate, momentum=spec.momentum)
        self._party = Party([module], self._optimiser)
        self.num_steps = 0
        self._round, self._before = -1, b""
        if path is not None and path.is_file():
            self.num_steps = load_training(path.read_bytes(), module, self._optimiser)

    def begin(self, number: int, weights: np.ndarray) -> None:
        """Begin a round, or the same again.  Raises InvalidTensor for weights float32 [P] of another network."""
        if number == self._round:
            self.num_steps = load_training(self._before, self._module, self._optimiser)
        self._round, self._before = number, save_training(self._module, self._optimiser, self.num_steps)
        flat.from_vector(self._module, weights)
        set_training_mode(self._module)

    def forward(self, inputs: Tensors) -> Tensors:
        """What the other side gets."""
        with step_randomness(self._seed, self.num_steps):
            return self._party.forward(inputs)

    def backward(self, gradients: Tensors) -> Tensors:
        """Take a step; what the other side gets."""
        with step_randomness(self._seed, self.num_steps):
            out = self._party.backward(gradients)
        self._party.step()
        self.num_steps += 1
        return out

    def keep(self) -> None:
        """Let a restarted node go on from here.  Raises OSError."""
        if self._path is not None:
            write_atomically(self._path, save_training(self._module, self._optimiser, self.num_steps))


class SplitDevice:
    """A client: the stages in front of the cut, and the examples."""

    def __init__(self, prepare: Prepare, after_step: AfterStep) -> None:
        job = prepare.job
        self._job, self._after_step = job, after_step
        examples = load_job_data(job.data).part(prepare.client)
        self._images, self._labels = examples.images[:, 0], examples.labels
        self._spec = msgspec.structs.replace(job.local, seed=job.local.seed + prepare.client)
        self._front = cut_in_two(make_job_network(job), job.cut)[0]
        self._half = Half(self._front, self._spec, _path(job, prepare.node, prepare.node))
        self.prepared = Prepared(job=job.name, num_examples=len(self._labels), num_parameters=flat.num_elements(self._front))
        """What the node is told."""

    def answer(self, task: SplitTask) -> SplitDone:
        """The next piece.  Raises InvalidTensor for tensors that are not what the last one must be answered with."""
        tensors = tuple(unpack(task.parcel).tensors)
        step, loss = task.step, None
        match task.piece:
            case "part":
                self._half.begin(task.round, _only(tensors))
            case "logits":
                loss, gradients = loss_and_gradient(tensors, self._labels[self._batch()])
            case "gradients":
                self._half.backward(tensors)
                step += 1
            case _:
                raise InvalidInput(f"a device does not take {task.piece!r}")
        done = msgspec.structs.replace(failed(task, ""), step=step, loss=loss)
        if task.piece == "logits":
            done = msgspec.structs.replace(done, piece="logit_gradients", parcel=pack(gradients))
        elif step == task.tau:
            self._half.keep()
            done = msgspec.structs.replace(done, piece="part", parcel=pack([flat.to_vector(self._front)]))
        else:
            done = msgspec.structs.replace(done, piece="activations", parcel=pack(self._activations()))
        self._after_step(task.round, f"{task.piece} -> {done.piece}")
        return done

    def _batch(self) -> np.ndarray:
        return minibatch(len(self._labels), self._spec.batch_size, self._spec.seed, self._half.num_steps)

    def _activations(self) -> list[np.ndarray]:
        """Of the next minibatch; with its labels if they may leave."""
        batch = self._batch()
        activations = self._half.forward((self._images[batch],))
        return [*activations, *(() if self._job.labels_stay else (self._labels[batch],))]


class SplitServer:
    """The stages behind the cut, of every client its own."""

    def __init__(self, prepare: Prepare, after_step: AfterStep) -> None:
        self._job, self._node, self._after_step = prepare.job, prepare.node, after_step
        self._clients: dict[str, _ServedClient] = {}
        num_parameters = _ServedClient(prepare.job, None).num_parameters  # a cut that there is not is refused now
        self.prepared = Prepared(job=prepare.job.name, num_parameters=num_parameters)
        """What the node is told."""

    def answer(self, task: SplitTask) -> SplitDone:
        """The next piece.  Raises InvalidTensor for tensors that are not what the last one must be answered with."""
        if task.client not in self._clients:
            self._clients[task.client] = _ServedClient(self._job, _path(self._job, self._node, task.client))
        done = self._clients[task.client].answer(task)
        self._after_step(task.round, f"{task.piece} -> {done.piece}")
        return done


class _ServedClient:
    """One client's whole network, of which the back half is trained here and the front half is a place for its weights."""

    def __init__(self, job: FitJob, path: Path | None) -> None:
        self._job, self._network = job, make_job_network(job)
        self._front, self._back = cut_in_two(self._network, job.cut)
        self._half = Half(self._back, job.local, path)
        self._start = np.zeros(0, dtype=np.float32)
        self.num_parameters = flat.num_elements(self._network)

    def answer(self, task: SplitTask) -> SplitDone:
        tensors = tuple(unpack(task.parcel).tensors)
        done = failed(task, "")
        match task.piece:
            case "weights":
                self._start = _only(tensors)
                flat.from_vector(self._network, self._start)
                self._half.begin(task.round, flat.to_vector(self._back))
                return msgspec.structs.replace(done, piece="part", parcel=pack([flat.to_vector(self._front)]))
            case "activations" if self._job.labels_stay:
                return msgspec.structs.replace(done, piece="logits", parcel=pack(self._half.forward(tensors)))
            case "activations":
                labels = _labels(tensors)
                loss, gradients = loss_and_gradient(self._half.forward(tensors[:-1]), labels)
                return msgspec.structs.replace(done, piece="gradients", loss=loss, parcel=pack(self._half.backward(gradients)))
            case "logit_gradients":
                return msgspec.structs.replace(done, piece="gradients", parcel=pack(self._half.backward(tensors)))
            case "part":
                return self._update(done, _only(tensors))
            case _:
                raise InvalidInput(f"a server does not take {task.piece!r}")

    def _update(self, done: SplitDone, part: np.ndarray) -> SplitDone:
        """Both halves' change since the round began, as a Contribution has it."""
        flat.from_vector(self._front, part)
        update = flat.to_vector(self._network) - self._start
        identity = find_compressor(self._job.compressor, self._job.rounds)
        written = identity.compress(update, identity.start(self.num_parameters), np.random.default_rng(0))[0]
        self._half.keep()
        return msgspec.structs.replace(
            done,
            piece="update",
            parcel=pack([np.frombuffer(frame, dtype=np.uint8) for frame in written.frames]),
            parameters=msgspec.msgpack.encode(written.header),
        )


def _path(job: FitJob, node: str, client: str) -> Path | None:
    return Path(job.folder) / node / f"{quote(client, safe='')}.half.safetensors" if job.folder else None


def _only(tensors: Tensors) -> np.ndarray:
    if len(tensors) != 1:
        raise InvalidTensor(f"weights come as one tensor, got {len(tensors)}")
    return tensors[0]


def _labels(tensors: Tensors) -> np.ndarray:
    if len(tensors) < 2 or tensors[-1].ndim != 1:
        raise InvalidTensor(f"activations come with labels [N], got {[each.shape for each in tensors]}")
    return tensors[-1]
