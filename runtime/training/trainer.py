"""What a node computes for a training job: networks, data, local steps, aggregation.  Needs the `train` extra.

Imported by name, by the trainer's thread (runtime/training/worker.py), once a job comes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from torch import nn
from torch.nn import functional

from runtime.codecs.parcel import unpack
from runtime.errors import InvalidModel
from runtime.files import write_atomically
from runtime.messages import FitJob, UpdateHeader
from runtime.models.examples import Examples
from runtime.models.factories import make_network
from runtime.training import flat
from runtime.training.data.job import load_job_data
from runtime.training.exchange import Exchange
from runtime.training.gossip import consensus_distance, receive, weighted_consensus
from runtime.training.local import LocalTrainer
from runtime.training.protocol.tasks import (
    Aggregate,
    Aggregated,
    Assess,
    Assessed,
    Decode,
    Decoded,
    GossipDone,
    GossipSteps,
    LocalDone,
    LocalSteps,
    Prepare,
    Prepared,
    Save,
    Saved,
)
from runtime.training.server import Server
from runtime.training.transfer import freeze_layers

LOCAL_NAME = "local.safetensors"
EVALUATION_BATCH = 256


class Trainer:
    """One job's network and data at one node.  One thread.

    Raises DrlctlErrors for a job that cannot be carried out here: no such factory, no such data, a compressor or an aggregator
    that does not exist, a state on disk that is another network's.
    """

    def __init__(self, prepare: Prepare, after_step: Callable[[int], None]) -> None:
        job = prepare.job
        self._job, self._node, self._after_step = job, prepare.node, after_step
        self._folder = Path(job.folder) / prepare.node if job.folder else None
        self._network = make_job_network(job)
        num_parameters = flat.num_elements(self._network)
        self._exchange = Exchange(job, num_parameters, flat.num_trainable(self._network), max(0, prepare.client) + 1)
        self._server = Server(job, num_parameters, prepare.role)
        self._local: LocalTrainer | None = None
        self._test: Examples | None = None
        self.prepared = Prepared(job=job.name, num_parameters=num_parameters)
        """What the node is told."""
        match prepare.role:
            case "client" | "peer":
                self._prepare_client(prepare.client)
            case "root" | "observer":
                self._prepare_root()
            case _:
                pass  # those between have the network's size to know, and no data

    def _prepare_client(self, client: int) -> None:
        examples = load_job_data(self._job.data).part(client)
        spec = msgspec.structs.replace(self._job.local, seed=self._job.local.seed + client)
        self._local = LocalTrainer(self._network, examples, spec)
        if self._folder is not None and (self._folder / LOCAL_NAME).is_file():
            self._exchange.recall(self._folder)
            self._local.load((self._folder / LOCAL_NAME).read_bytes())
        self.prepared = msgspec.structs.replace(self.prepared, num_examples=len(examples.labels))

    def _prepare_root(self) -> None:
        """Weights to begin from: the network's own, or those that an earlier start of the same job left."""
        self._test = load_job_data(self._job.data).test
        self.prepared = msgspec.structs.replace(self.prepared, initial_loss=judge(self._network, self._test)[1])
        found = self._server.load(self._folder) if self._folder is not None else None
        if found is None:
            self.prepared = msgspec.structs.replace(self.prepared, weights=flat.to_vector(self._network))
            return
        kept, weights = found
        self.prepared = msgspec.structs.replace(self.prepared, weights=weights, records=kept.records, attempt=kept.attempt, tau=kept.tau)

    # ------------------------------------------------------------ tasks

    def local_steps(self, task: LocalSteps) -> LocalDone:
        """Train, write, keep.  Raises what `LocalTrainer.run` and compressors raise, and OSError."""
        assert self._local is not None
        (weights,) = unpack(task.weights).tensors
        result = self._local.run(weights, task.tau, after_step=lambda: self._after_step(task.round))
        statistics = result.statistics if task.compare else None
        gradient = statistics.global_gradient if statistics is not None else None
        written = self._exchange.write(result.update, gradient, last_sent=task.last_sent)
        if self._folder is not None:
            self._exchange.keep(self._folder)
            write_atomically(self._folder / LOCAL_NAME, self._local.save())
        header = UpdateHeader(
            client=self._node,
            round=task.round,
            num_examples=result.num_examples,
            num_local_steps=result.num_steps,
            metrics={"loss": result.loss},
        )
        return LocalDone(
            job=task.job,
            round=task.round,
            header=header,
            parameters=written.parameters,
            parcel=written.parcel,
            estimate=(statistics.rho, statistics.beta) if statistics is not None else None,
        )

    def decode(self, task: Decode) -> Decoded:
        """Read a contribution."""
        return self._exchange.read(task)

    def aggregate(self, task: Aggregate) -> Aggregated:
        """New weights of a round's updates; evaluated at the root, written for the node above at an edge."""
        weights, surface, epsilon = self._server.combine(task)
        accuracy = loss = None
        if task.evaluate and self._test is not None:
            flat.from_vector(self._network, weights)
            accuracy, loss = judge(self._network, self._test)
        done = Aggregated(job=task.job, weights=weights, accuracy=accuracy, test_loss=loss, surface=surface, epsilon=epsilon)
        if task.upwards is None or task.base is None:
            return done
        written = self._exchange.write(np.subtract(weights, task.base, dtype=np.float32), None, last_sent=task.last_sent)
        return msgspec.structs.replace(done, header=task.upwards, parameters=written.parameters, parcel=written.parcel)

    def gossip_steps(self, task: GossipSteps) -> GossipDone:
        """Mix in what came, then train.  Raises what `LocalTrainer.run` raises."""
        assert self._local is not None
        state = task.state
        for message in task.incoming:
            state = receive(state, message)
        result = self._local.run(state.vector, task.tau, after_step=lambda: self._after_step(task.round))
        vector = np.add(state.vector, result.update, dtype=np.float32)
        return GossipDone(job=task.job, round=task.round, weight=state.weight, vector=vector, loss=result.loss)

    def assess(self, task: Assess) -> Assessed:
        """Consensus distance, and what the peers' mean is worth."""
        assert self._test is not None
        flat.from_vector(self._network, weighted_consensus(task.states).astype(np.float32))
        accuracy, loss = judge(self._network, self._test)
        return Assessed(job=task.job, accuracy=accuracy, test_loss=loss, consensus_distance=consensus_distance(task.states))

    def save(self, task: Save) -> Saved:
        """Keep a root's state, where the job says where.  Raises OSError."""
        if self._folder is not None:
            self._server.save(task, self._folder)
        return Saved(job=task.job)


def judge(network: nn.Module, examples: Examples) -> tuple[float, float]:
    """(accuracy, mean cross entropy) of the last exit."""
    network.eval()
    right, loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, len(examples.labels), EVALUATION_BATCH):
            labels = torch.from_numpy(examples.labels[start : start + EVALUATION_BATCH])
            outputs = network(torch.from_numpy(examples.images[start : start + EVALUATION_BATCH, 0]))
            logits = outputs[-1] if isinstance(outputs, (list, tuple)) else outputs
            right += int((logits.argmax(dim=1) == labels).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    return right / len(examples.labels), loss / len(examples.labels)


def make_job_network(job: FitJob) -> nn.Module:
    """The job's network, with the layers that it reuses already in it, frozen.  Raises InvalidModel."""
    network = make_network(job.network.factory, job.network.arguments, job.seed)
    for layer, path in job.network.reuse.items():
        try:
            tensors = {name: torch.from_numpy(array) for name, array in load_tensors(Path(path).read_bytes()).items()}
        except (OSError, SafetensorError) as exc:
            raise InvalidModel(f"layer {layer!r} cannot be taken from {path}: {exc}") from exc
        prefix = f"{layer}."
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        try:
            network.get_submodule(layer).load_state_dict(own)
        except (AttributeError, RuntimeError) as exc:
            raise InvalidModel(f"{path} has no layer {layer!r} that fits the network: {exc}") from exc
    freeze_layers(network, list(job.network.reuse))
    return network
