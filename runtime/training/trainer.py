"""What a node computes for a training job: networks, data, local steps, aggregation.  Needs the `train` extra.

Imported by name, by the trainer's thread (runtime/training/worker.py), once a job comes.
"""

from __future__ import annotations

import time
import zlib
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from runtime.codecs.parcel import unpack
from runtime.errors import InvalidInput
from runtime.files import write_atomically
from runtime.messages import FitJob, UpdateHeader
from runtime.models.examples import Examples
from runtime.models.factories import make_network
from runtime.training import flat
from runtime.training.base import find_base
from runtime.training.data.job import load_job_data
from runtime.training.exchange import Exchange, Written
from runtime.training.gossip import consensus_distance, receive, weighted_consensus
from runtime.training.local import LocalTrainer
from runtime.training.protocol.tasks import (
    Aggregate,
    Aggregated,
    Assess,
    Assessed,
    Decode,
    Decoded,
    Evaluate,
    Evaluated,
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
from runtime.training.steps import AfterStep
from runtime.training.trained import keep_trained
from runtime.training.transferred import Transferred

LOCAL_NAME = "local.safetensors"
EVALUATION_BATCH = 256
MOST_CLIENTS = 1 << 32
"""Seeds of edges begin above those of so many clients."""


class Trainer:
    """One job's network and data at one node.  One thread.

    Raises DrlctlErrors for a job that cannot be carried out here: no such factory, no such data, a compressor or an aggregator
    that does not exist, a state on disk that is another network's.
    """

    def __init__(self, prepare: Prepare, after_step: AfterStep) -> None:
        job = prepare.job
        self._job, self._node, self._after_step = job, prepare.node, after_step
        self._folder = Path(job.folder) / prepare.node if job.folder else None
        self._network = make_job_network(job)
        self._transferred = Transferred(job, job.transfer, self._network) if job.transfer is not None else None
        num_parameters = flat.num_elements(self._network)
        self._exchange = Exchange(job, num_parameters, flat.num_trainable(self._network), exchange_seed(prepare))
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
            case "aggregator" if self._folder is not None:
                self._exchange.recall(self._folder)
            case _:
                pass  # those between have the network's size to know, and no data

    def _prepare_client(self, client: int) -> None:
        examples = load_job_data(self._job.data).part(client)
        spec = msgspec.structs.replace(self._job.local, seed=self._job.local.seed + client)
        transferred = self._transferred
        self._local = LocalTrainer(self._network, examples, spec, transferred.teacher if transferred is not None else None)
        if self._folder is not None and (self._folder / LOCAL_NAME).is_file():
            self._exchange.recall(self._folder)
            self._local.load((self._folder / LOCAL_NAME).read_bytes())
        if transferred is not None and self._folder is not None:
            transferred.recall(self._folder)
        own = flat.to_vector(self._network) if self._job.architecture == "local" else None
        digest = transferred.digest if transferred is not None else ""
        self.prepared = msgspec.structs.replace(self.prepared, num_examples=len(examples.labels), weights=own, base_digest=digest)

    def _prepare_root(self) -> None:
        """Weights to begin from: the network's own, or those that an earlier start of the same job left."""
        self._test = load_job_data(self._job.data).test
        if self._transferred is not None and self._job.transfer is not None:
            base = find_base(self._job, self._job.transfer, self._folder, lambda kind: self._after_step(0, kind))
            vector = self._transferred.begin_from(base.network)
            self.prepared = msgspec.structs.replace(self.prepared, base=vector if vector.size else None, base_s=base.trained_s)
        self.prepared = msgspec.structs.replace(self.prepared, initial_loss=judge(self._network, self._test)[1])
        found = self._server.load(self._folder) if self._folder is not None else None
        if found is None:
            self.prepared = msgspec.structs.replace(self.prepared, weights=flat.to_vector(self._network))
            return
        kept, weights = found
        self.prepared = msgspec.structs.replace(self.prepared, weights=weights, records=kept.records, attempt=kept.attempt, tau=kept.tau)

    @property
    def network(self) -> nn.Module:
        """The job's network, with whatever weights were used last."""
        return self._network

    def rehearse(self) -> float | None:
        """Seconds that a local step takes, which is not taken; None where there are none to come."""
        if self._local is None or (self._transferred is not None and self._transferred.lacks_base):
            return None
        return self._local.rehearse()

    # ------------------------------------------------------------ tasks

    def local_steps(self, task: LocalSteps) -> LocalDone:
        """Train, write, keep.  Raises what `LocalTrainer.run` and compressors raise, and OSError."""
        assert self._local is not None
        weights, *base = unpack(task.weights).tensors
        self._lay(base)
        began_s = time.perf_counter()
        result = self._local.run(weights, task.tau, lambda kind: self._after_step(task.round, kind), compare=task.compare)
        compute_s = time.perf_counter() - began_s
        statistics = result.statistics
        gradient = statistics.global_gradient if statistics is not None else None
        written = self._write(result.update, gradient, task)
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
            base_digest=self._transferred.digest if self._transferred is not None else "",
            compute_s=compute_s,
        )

    def _write(self, update: np.ndarray, gradient: np.ndarray | None, task: LocalSteps) -> Written:
        return self._exchange.write(update, gradient, number=task.round, sent_round=task.sent_round)

    def _lay(self, base: list[np.ndarray]) -> None:
        """Use the base that came with the weights, if any did.  Raises InvalidInput while a base that is needed has not come, OSError."""
        transferred = self._transferred
        if transferred is None:
            return
        if base:
            transferred.take_over(base[0])
            if self._folder is not None:
                transferred.keep(self._folder)
        if transferred.lacks_base:
            raise InvalidInput(f"{self._node} has no base to train on yet; it comes with the next round")

    def decode(self, task: Decode) -> Decoded:
        """Read a contribution."""
        return self._exchange.read(task)

    def aggregate(self, task: Aggregate) -> Aggregated:
        """New weights of a round's updates; at an edge also written for the node above.  Raises what `Server.combine` and compressors
        raise, and OSError."""
        weights, surface, epsilon, drift = self._server.combine(task, self._folder)
        done = Aggregated(job=task.job, weights=weights, surface=surface, epsilon=epsilon, drift=drift)
        if task.upwards is None or task.base is None:
            return done
        update = np.subtract(weights, task.base, dtype=np.float32)
        written = self._exchange.write(update, None, number=task.upwards.round, sent_round=task.sent_round)
        if self._folder is not None:
            self._exchange.keep(self._folder)
        return msgspec.structs.replace(done, header=task.upwards, parameters=written.parameters, parcel=written.parcel)

    def evaluate(self, task: Evaluate) -> Evaluated:
        """What weights are worth on the test split, where there is one."""
        accuracy, loss = self._judge(task.weights) if self._test is not None else (None, None)
        return Evaluated(job=task.job, accuracy=accuracy, test_loss=loss)

    def gossip_steps(self, task: GossipSteps) -> GossipDone:
        """Mix in what came, then train; the last round's weights are kept.  Raises what `LocalTrainer.run` raises, and OSError."""
        assert self._local is not None
        state = task.state
        for message in task.incoming:
            state = receive(state, message)
        result = self._local.run(state.vector, task.tau, lambda kind: self._after_step(task.round, kind))
        vector = np.add(state.vector, result.update, dtype=np.float32)
        if self._folder is not None and task.round >= self._job.rounds:
            keep_trained(self._folder, vector)
        return GossipDone(job=task.job, round=task.round, weight=state.weight, vector=vector, loss=result.loss)

    def assess(self, task: Assess) -> Assessed:
        """Consensus distance, and what the peers' mean is worth; or, where nobody averages, each of them: (accuracy, loss) on average."""
        judged = [state.vector for state in task.states]
        if self._job.architecture != "local":
            judged = [weighted_consensus(task.states).astype(np.float32)]
        accuracy, loss = np.mean([self._judge(vector) for vector in judged], axis=0).tolist()
        return Assessed(job=task.job, accuracy=accuracy, test_loss=loss, consensus_distance=consensus_distance(task.states))

    def _judge(self, weights: np.ndarray) -> tuple[float, float]:
        """(accuracy, loss) of weights float32 [P] on the test split."""
        assert self._test is not None
        flat.from_vector(self._network, weights)
        return judge(self._network, self._test)

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


def exchange_seed(prepare: Prepare) -> int:
    """Of a node's random compressor, another one for each sender: clients by their number, edges, which have none, by their name."""
    return prepare.client + 1 if prepare.client >= 0 else MOST_CLIENTS + zlib.crc32(prepare.node.encode())


def make_job_network(job: FitJob) -> nn.Module:
    """The job's network with its first weights.  Raises InvalidModel."""
    return make_network(job.network.factory, job.network.arguments, job.seed)
