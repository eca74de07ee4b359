"""Cell networks, trained on whole pictures with a label for every cell, and their specifications for the nodes.

One training gives weights; every size of picture that they are to answer for is a model of its own, which the builder
makes of those weights like any network that comes with its own.  Needs the `train` extra.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.torch import save as save_state

from runtime.errors import InvalidDataset
from runtime.files import cache_dir, write_atomically
from runtime.messages import TensorSpec
from runtime.models.build import content_key
from runtime.models.examples import Examples
from runtime.models.factories import make_network
from runtime.models.fitting import Progress, one_thread, train_network
from runtime.models.forms import ListedLogits
from runtime.models.pixels import PixelInput
from runtime.models.zoo import FitSpec, ModelSpec

FACTORY = "runtime.models.networks.cells:cell_network"
FIT = FitSpec(epochs=16, batch_size=8, learning_rate=6e-3, max_shift_pixels=0)
"""Shifted pictures have other labels: whoever labels them shifts them (max_shift_pixels = 0)."""
MAX_STAGES = 4


def train_cells(
    images: np.ndarray, occupied: np.ndarray, *, fit: FitSpec = FIT, cache: Path | None = None, progress: Progress | None = None
) -> Path:
    """A file with the weights of a cell network trained on these pictures, from the cache if the same training left one.

    `images` uint8 [N, C, H, W]; `occupied` bool [N, rows, columns], a cell having H / rows pixels a side.
    Raises InvalidDataset when cells are not square or do not tile the pictures, InvalidConfig when no batch is filled.
    """
    stride = _stride(images, occupied)
    spec = _spec("cells", stride, images.shape[1:], fit, data=_digest(images, occupied))
    path = (cache or cache_dir()) / "trained" / f"{content_key(spec)[:32]}.safetensors"
    if not path.is_file():
        network = make_network(spec.factory, spec.arguments, fit.seed)
        examples = Examples(images=images[:, None], labels=occupied.astype(np.int64))
        channels_last = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's annotations
        train_network(ListedLogits(PixelInput(channels_last)), examples, fit, progress=progress)
        state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in network.state_dict().items()}
        write_atomically(path, save_state(state))
    return path


def answer_cells(images: np.ndarray, weights: Path, stride: int) -> np.ndarray:
    """What trained weights say of pictures uint8 [N, C, H, W], bool [N, H / stride, W / stride].  Raises InvalidModel like the factory."""
    network = PixelInput(make_network(FACTORY, {"channels": images.shape[1], "stride": stride, "weights": str(weights)}, FIT.seed)).eval()
    with one_thread(), torch.inference_mode():
        logits = torch.cat([network(batch) for batch in torch.split(torch.from_numpy(images), FIT.batch_size)])
    occupied: np.ndarray = (logits[:, 1] > logits[:, 0]).numpy()
    return occupied


def cell_spec(name: str, weights: Path, stride: int, shape: tuple[int, int, int]) -> ModelSpec:
    """A model for pictures uint8 [1, *shape] with these weights.  Raises InvalidConfig for a name that no model may have."""
    spec = _spec(name, stride, shape, FIT, data=hashlib.sha256(weights.read_bytes()).hexdigest())
    return msgspec.structs.replace(spec, arguments=spec.arguments | {"weights": str(weights)})


def _spec(name: str, stride: int, shape: tuple[int, ...], fit: FitSpec, data: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        factory=FACTORY,
        arguments={"channels": shape[0], "stride": stride},
        input=TensorSpec(shape=(1, *shape), dtype="uint8"),
        variants=("fp32",),
        fit=fit,
        scale_pixels=True,
        max_stages=MAX_STAGES,
        data_sha256=data,
    )


def _stride(images: np.ndarray, occupied: np.ndarray) -> int:
    height, width = images.shape[2:]
    rows, columns = occupied.shape[1:]
    stride = int(height // rows)
    if len(images) != len(occupied) or (rows * stride, columns * stride) != (height, width):
        raise InvalidDataset(f"{len(images)} pictures of {height}x{width} and {len(occupied)} grids of {rows}x{columns}: cells must tile")
    return stride


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, str(array.dtype))).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
