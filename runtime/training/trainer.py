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
from safetensors.numpy import save as save_tensors
from torch import nn
from torch.nn import functional

from runtime.codecs.header import TensorHeader
from runtime.codecs.parcel import pack, unpack
from runtime.errors import DrlctlError, InvalidCheckpoint, InvalidInput, InvalidModel, MalformedMessage
from runtime.files import write_atomically
from runtime.messages import FitJob, RoundRecord, UpdateHeader
from runtime.models.examples import Examples
from runtime.models.factories import make_network
from runtime.training import flat
from runtime.training.aggregation import find_aggregator
from runtime.training.aggregation.server_state import ServerState, decode_state, encode_state
from runtime.training.compress import Compressed, CompressorState, find_compressor, load_state, save_state
from runtime.training.data.job import load_job_data
from runtime.training.local import GradientStatistics, LocalTrainer
from runtime.training.privacy import account, private_mean
from runtime.training.protocol.tasks import (
    Aggregate,
    Aggregated,
    Decode,
    Decoded,
    LocalDone,
    LocalSteps,
    Prepare,
    Prepared,
    Save,
    Saved,
)
from runtime.training.tau import ClientEstimate, combine_estimates
from runtime.training.tau_control import TauState
from runtime.training.transfer import freeze_layers
from runtime.training.update import Update

STATE_NAME, RECORDS_NAME, LOCAL_NAME, COMPRESSOR_NAME = "state.safetensors", "rounds.json", "local.safetensors", "compressor.safetensors"
EVALUATION_BATCH = 256


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A root's state beside its weights."""

    records: tuple[RoundRecord, ...]
    attempt: int
    tau: TauState
    weights_name: str
    """The file that belongs to these records: a crash between the two writes leaves the older pair in force."""


class Trainer:
    """One job's networks and data at one node.  One thread.

    Raises DrlctlErrors for a job that cannot be carried out here: no such factory, no such data, a compressor or an aggregator
    that does not exist, a state on disk that is another network's.
    """

    def __init__(self, prepare: Prepare, after_step: Callable[[int], None]) -> None:
        job = prepare.job
        self._job, self._role, self._node, self._after_step = job, prepare.role, prepare.node, after_step
        self._folder = Path(job.folder) / prepare.node if job.folder else None
        self._network = make_job_network(job)
        self._num_parameters = flat.num_elements(self._network)
        self._compressor, self._aggregator = find_compressor(job.compressor), find_aggregator(job.aggregator)
        self._memory = self._compressor.start(self._num_parameters)
        self._next_memory: CompressorState | None = None
        self._rng = np.random.default_rng([job.seed, max(0, prepare.client) + 1])
        self._server: ServerState = self._aggregator.start(self._num_parameters)
        self._num_aggregations = 0
        self._local: LocalTrainer | None = None
        self._test: Examples | None = None
        self._num_examples = 0
        if prepare.role == "client":
            self._prepare_client(prepare.client)
        elif prepare.role == "root":
            self._test = load_job_data(job.data).test

    def prepared(self) -> Prepared:
        """What the node may be told: weights at the root, from where the job was left if it was begun before."""
        kept = self._load_kept() if self._role == "root" else None
        weights = flat.to_vector(self._network) if self._role == "root" else None
        return Prepared(
            job=self._job.name,
            num_examples=self._num_examples,
            num_parameters=self._num_parameters,
            weights=weights,
            records=kept.records if kept is not None else (),
            attempt=kept.attempt if kept is not None else 0,
            tau=kept.tau if kept is not None else None,
        )

    # ------------------------------------------------------------ clients

    def _prepare_client(self, client: int) -> None:
        examples = load_job_data(self._job.data).part(client)
        spec = msgspec.structs.replace(self._job.local, seed=self._job.local.seed + client)
        self._num_examples = len(examples.labels)
        self._local = LocalTrainer(self._network, examples, spec)
        if self._folder is not None and (self._folder / LOCAL_NAME).is_file():
            self._local.load((self._folder / LOCAL_NAME).read_bytes())
            self._memory = load_state((self._folder / COMPRESSOR_NAME).read_bytes())

    def local_steps(self, task: LocalSteps) -> LocalDone:
        """Train, compress, keep.  Raises what `LocalTrainer.run` and compressors raise."""
        assert self._local is not None
        if self._next_memory is not None and task.last_sent:
            self._memory = self._next_memory
        self._next_memory = None
        (weights,) = unpack(task.weights).tensors
        result = self._local.run(weights, task.tau, after_step=lambda: self._after_step(task.round))
        statistics = result.statistics if task.compare else None
        header = UpdateHeader(
            client=self._node,
            round=task.round,
            num_examples=result.num_examples,
            num_local_steps=result.num_steps,
            metrics={"loss": result.loss},
        )
        done = self._write(result.update, statistics)
        self._keep_local()
        return msgspec.structs.replace(done, job=task.job, round=task.round, header=header)

    def _write(self, update: np.ndarray, statistics: GradientStatistics | None) -> LocalDone:
        """The update as it is sent; the compressor's memory of it counts once it has left."""
        compressed, self._next_memory = self._compressor.compress(update, self._memory, self._rng)
        tensors = [np.frombuffer(frame, dtype=np.uint8) for frame in compressed.frames]
        estimate = None
        if statistics is not None:
            tensors.append(statistics.global_gradient)
            estimate = (statistics.rho, statistics.beta)
        parameters = msgspec.msgpack.encode(compressed.header)
        return LocalDone(job="", round=0, parameters=parameters, parcel=pack(tensors), estimate=estimate)

    def _keep_local(self) -> None:
        if self._folder is not None and self._local is not None and self._next_memory is not None:
            write_atomically(self._folder / COMPRESSOR_NAME, save_state(self._next_memory))
            write_atomically(self._folder / LOCAL_NAME, self._local.save())

    # ------------------------------------------------------------ aggregating

    def decode(self, task: Decode) -> Decoded:
        """Read a contribution.  What is no update of this job's comes back as an error."""
        header = task.contribution.header
        about = Decoded(job=task.contribution.job, client=header.client, round=header.round)
        try:
            if task.contribution.compressor != self._job.compressor:
                raise InvalidInput(f"the job says {self._job.compressor!r}, the update came as {task.contribution.compressor!r}")
            tensors = unpack(task.parcel).tensors
            gradient = tensors.pop() if task.contribution.estimate is not None and tensors else None
            parameters = msgspec.msgpack.decode(task.contribution.parameters, type=TensorHeader)
            compressed = Compressed(header=parameters, frames=tuple(tensor.data.cast("B") for tensor in tensors))
            delta = self._compressor.decompress(compressed, self._num_parameters)
        except (DrlctlError, msgspec.MsgspecError, ValueError, TypeError) as exc:
            return msgspec.structs.replace(about, error=str(exc))
        if gradient is not None and (gradient.dtype != np.float32 or gradient.shape != (flat.num_trainable(self._network),)):
            gradient = None
        estimate = None
        if task.contribution.estimate is not None and gradient is not None:
            rho, beta = task.contribution.estimate
            estimate = ClientEstimate(num_examples=header.num_examples, lipschitz=rho, smoothness=beta)
        update = Update(header=header, delta=delta)
        return msgspec.structs.replace(about, update=update, estimate=estimate, gradient=gradient)

    def aggregate(self, task: Aggregate) -> Aggregated:
        """New weights of a round's updates; evaluated at the root, written for the node above at an edge."""
        self._num_aggregations += 1
        privacy, epsilon = self._job.privacy, None
        if privacy is not None:
            mean = private_mean(task.updates, privacy, max(1.0, task.num_drawn * 1.0), self._rng)
            weights = np.asarray(task.weights + mean).astype(np.float32)
            epsilon = account(privacy, self._num_aggregations).epsilon if privacy.noise_multiplier else None
        else:
            weights, self._server = self._aggregator.aggregate(task.weights, task.updates, self._server)
        surface = combine_estimates(task.estimates, task.gradients) if task.estimates else None
        accuracy = loss = None
        if task.evaluate and self._test is not None:
            flat.from_vector(self._network, weights)
            accuracy, loss = judge(self._network, self._test)
        done = Aggregated(job=task.job, weights=weights, accuracy=accuracy, test_loss=loss, surface=surface, epsilon=epsilon)
        if task.upwards is None or task.base is None:
            return done
        if self._next_memory is not None and task.last_sent:
            self._memory = self._next_memory
        written = self._write(np.subtract(weights, task.base, dtype=np.float32), None)
        return msgspec.structs.replace(done, header=task.upwards, parameters=written.parameters, parcel=written.parcel)

    # ------------------------------------------------------------ keeping a root's state

    def save(self, task: Save) -> Saved:
        """Weights first, then the records that name them.  Raises OSError."""
        if self._folder is None:
            return Saved(job=task.job)
        data = save_tensors({"weights": task.weights, "server": np.frombuffer(encode_state(self._server), dtype=np.uint8)})
        name = f"{task.attempt}.{STATE_NAME}"
        write_atomically(self._folder / name, data)
        kept = Kept(records=task.records, attempt=task.attempt, tau=task.tau, weights_name=name)
        write_atomically(self._folder / RECORDS_NAME, msgspec.json.encode(kept))
        for old in self._folder.glob(f"*.{STATE_NAME}"):
            if old.name != name:
                old.unlink(missing_ok=True)
        return Saved(job=task.job)

    def _load_kept(self) -> Kept | None:
        """Where the job was left; the network then has those weights.  Raises InvalidCheckpoint."""
        if self._folder is None or not (self._folder / RECORDS_NAME).is_file():
            return None
        try:
            kept = msgspec.json.decode((self._folder / RECORDS_NAME).read_bytes(), type=Kept)
            tensors = load_tensors((self._folder / Path(kept.weights_name).name).read_bytes())
            flat.from_vector(self._network, tensors["weights"])
            self._server = decode_state(tensors["server"].tobytes(), self._aggregator.start(self._num_parameters))
        except (OSError, KeyError, msgspec.MsgspecError, SafetensorError, InvalidInput, MalformedMessage) as exc:
            raise InvalidCheckpoint(f"{self._folder} holds no state of job {self._job.name!r} to go on from: {exc}") from exc
        self._num_aggregations = len(kept.records)
        return kept


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
