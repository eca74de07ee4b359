"""Where a job's base network comes from, at its root: kept by an earlier start, a checkpoint, or trained here and now."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from runtime.errors import InvalidCheckpoint, InvalidConfig, InvalidTensor
from runtime.files import write_atomically
from runtime.messages import FitJob, TransferSpec
from runtime.models.factories import make_network
from runtime.training import flat
from runtime.training.data.job import load_job_data
from runtime.training.local import LocalTrainer
from runtime.training.server import RECORDS_NAME, Kept
from runtime.training.transfer import load_state_vector, state_vector

BASE_NAME = "base.safetensors"


class Base(NamedTuple):
    """A base network, in evaluation mode."""

    network: nn.Module
    trained_s: float
    """How long it was trained here; 0 when it was found."""


def make_base(job: FitJob, transfer: TransferSpec) -> nn.Module:
    """The base's network with first weights of its own.  Raises InvalidModel."""
    spec = transfer.network or job.network
    return make_network(spec.factory, spec.arguments, job.seed).eval()


def find_base(job: FitJob, transfer: TransferSpec, folder: Path | None, after: Callable[[str], None]) -> Base:
    """The base, trained if it is not there yet; with a folder it is kept for the next start.

    Raises InvalidModel, InvalidCheckpoint for weights that cannot be read or are another network's, InvalidConfig when there
    is nothing to train it on, or when it knows other classes than those whose answers are to be imitated; OSError.
    """
    network = make_base(job, transfer)
    kept = folder / BASE_NAME if folder is not None else None
    if kept is not None and kept.is_file():
        _fill(network, _only_array(kept, "base"), kept)
        return Base(network, 0.0)
    began_s = time.perf_counter()
    if transfer.checkpoint:
        path = find_weights(Path(transfer.checkpoint))
        _fill(network, _only_array(path, "weights"), path)
        return Base(network, 0.0)
    _train(network, job, transfer, after)
    if kept is not None:
        write_atomically(kept, save({"base": state_vector([network])}))
    return Base(network.eval(), time.perf_counter() - began_s)


def find_weights(path: Path) -> Path:
    """The file of weights that a path means: itself, or what the one root in that folder saved last.  Raises InvalidCheckpoint."""
    if path.is_file():
        return path
    records = sorted(path.rglob(RECORDS_NAME)) if path.is_dir() else []
    if len(records) != 1:
        raise InvalidCheckpoint(f"{path} must hold one job's result to be a base, and holds {len(records)}; name the job's own folder")
    try:
        name = msgspec.json.decode(records[0].read_bytes(), type=Kept).weights_name
    except (OSError, msgspec.MsgspecError) as exc:
        raise InvalidCheckpoint(f"{records[0]} does not say which weights are the job's: {exc}") from exc
    return records[0].parent / Path(name).name


def _train(network: nn.Module, job: FitJob, transfer: TransferSpec, after: Callable[[str], None]) -> None:
    data = load_job_data(transfer.data or job.data)
    examples = data.own if transfer.data is None else data.train
    if not len(examples.labels):
        raise InvalidConfig(f"the root has no examples to train a base on: root_fraction is {job.data.root_fraction}")
    if transfer.distil is not None and data.classes != (known := load_job_data(job.data).classes):
        raise InvalidConfig(f"a base that knows {', '.join(data.classes)} has no answers to imitate about {', '.join(known)}")
    spec = msgspec.structs.replace(job.local, seed=job.seed, proximal=0.0)
    LocalTrainer(network, examples, spec).run(flat.to_vector(network), transfer.num_steps, after)


def _only_array(path: Path, name: str) -> np.ndarray:
    try:
        return load(path.read_bytes())[name]
    except (OSError, KeyError, SafetensorError) as exc:
        raise InvalidCheckpoint(f"{path} holds no base: {exc}") from exc


def _fill(network: nn.Module, weights: np.ndarray, path: Path) -> None:
    """As `base` all floating-point state, as a job's `weights` the same values in the order of runtime/training/flat.py."""
    try:
        if path.name == BASE_NAME:
            load_state_vector([network], weights)
        else:
            flat.from_vector(network, weights)
    except InvalidTensor as exc:
        raise InvalidCheckpoint(f"{path} holds another network's weights: {exc}") from exc
