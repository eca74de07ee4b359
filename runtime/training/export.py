"""What a job has trained as a model that nodes serve: the same network and weights, cut into stages and exported.

Needs the `train` extra.  What comes out is a model directory like any other (runtime/models/builder.py), of one variant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import torch
from safetensors.torch import save as save_state
from torch import nn

from runtime.errors import InvalidConfig
from runtime.files import write_atomically
from runtime.messages import FitJob, TensorSpec
from runtime.models.builder import build
from runtime.models.datasets import load_dataset
from runtime.models.datasets.built_in import BUILT_IN
from runtime.models.factories import taken_arguments
from runtime.models.forms import ListedLogits
from runtime.models.manifest import load_manifest
from runtime.models.measuring import write_manifest
from runtime.models.zoo import FitSpec, ModelSpec
from runtime.training import flat
from runtime.training.data.job import SENSORS
from runtime.training.trainer import make_job_network

SERVED_VARIANT = "fp32"
ERRORS_ONLY = 3
"""ONNX Runtime also warns of every constant that a segment of a graph has no use for."""
Progress = Callable[[str, float], None]


def check_servable(job: FitJob) -> None:
    """Raise InvalidConfig for a job whose network no node can serve."""
    if job.data.source.startswith(SENSORS):
        raise InvalidConfig(f"nodes serve networks of pictures; {job.data.source!r} has none: give digits or a folder of pictures")
    if job.data.classes:
        raise InvalidConfig(f"nodes serve networks of all classes; the job has {', '.join(job.data.classes)} only: leave data.classes out")


def with_fitting_network(job: FitJob) -> FitJob:
    """The job with a network for its data: the factory is given `channels` and `num_classes`, where it takes them and nobody else did.

    Raises InvalidConfig as `check_servable`, InvalidDataset for the data, InvalidModel for the factory.
    """
    check_servable(job)
    dataset = load_dataset(job.data.source)
    offered = {"channels": dataset.splits["train"].images.shape[2], "num_classes": len(dataset.classes)}
    arguments = taken_arguments(job.network.factory, offered) | job.network.arguments
    return msgspec.structs.replace(job, network=msgspec.structs.replace(job.network, arguments=arguments))


def job_spec(job: FitJob, name: str) -> ModelSpec:
    """The served model of a job's network.  Raises InvalidConfig as `check_servable`, and what `load_dataset` raises."""
    check_servable(job)
    source = job.data.source if job.data.source in BUILT_IN else str(Path(job.data.source).resolve())
    images = load_dataset(job.data.source).splits["train"].images
    return ModelSpec(
        name=name,
        factory=job.network.factory,
        arguments=job.network.arguments,
        input=TensorSpec(shape=images.shape[1:], dtype="uint8"),
        variants=(SERVED_VARIANT,),
        dataset=source,
        fit=FitSpec(epochs=1),
    )


def export_job(job: FitJob, weights: np.ndarray, name: str, directory: Path, progress: Progress) -> None:
    """Fill a new directory with the model `name`: the job's network with weights float32 [P].

    Raises InvalidTensor for weights of another network, InvalidConfig and InvalidModel for one that cannot be served, OSError.
    """
    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    spec = job_spec(job, name)
    network = make_job_network(job).eval()
    flat.from_vector(network, weights)
    trained = directory.with_name(f"{directory.name}.safetensors")
    directory.mkdir(parents=True)
    write_atomically(trained, save_state(_as_trained(network, torch.zeros(spec.input.shape, dtype=torch.uint8))))
    build(spec, directory, trained, progress)


def share_references(directories: Sequence[Path]) -> None:
    """Give all the first one's reference times: they are the same graph, and emulated tiers are paced by these.  Raises OSError."""
    first, *others = (load_manifest(directory) for directory in directories)
    times = first.variants[SERVED_VARIANT]
    for directory, manifest in zip(directories[1:], others, strict=True):
        info = msgspec.structs.replace(
            manifest.variants[SERVED_VARIANT], stage_reference_s=times.stage_reference_s, head_reference_s=times.head_reference_s
        )
        write_manifest(msgspec.structs.replace(manifest, variants={SERVED_VARIANT: info}), directory)


def _as_trained(network: nn.Module, example: torch.Tensor) -> dict[str, torch.Tensor]:
    """The state as the builder keeps it: of a network that gives a list of logits."""
    with torch.no_grad():
        listed = network if isinstance(network(example), list) else ListedLogits(network)
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in listed.state_dict().items()}
