"""What a job has trained, in the folders of its nodes: a root's newest weights, or a client's own where nobody averages."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from runtime.errors import InvalidCheckpoint
from runtime.files import write_atomically
from runtime.training.server import RECORDS_NAME, Kept

TRAINED_NAME = "trained.safetensors"
_TENSOR = "weights"


def keep_trained(folder: Path, weights: np.ndarray) -> None:
    """Write a client's own weights float32 [P] after its last round.  Raises OSError."""
    write_atomically(folder / TRAINED_NAME, save_tensors({_TENSOR: weights}))


def read_trained(folder: Path) -> np.ndarray:
    """A node's weights float32 [P] after the last round that it kept.  Raises InvalidCheckpoint where there are none."""
    try:
        name = TRAINED_NAME
        if (folder / RECORDS_NAME).is_file():
            name = Path(msgspec.json.decode((folder / RECORDS_NAME).read_bytes(), type=Kept).weights_name).name
        weights: np.ndarray = load_tensors((folder / name).read_bytes())[_TENSOR]
    except (OSError, KeyError, msgspec.MsgspecError, SafetensorError) as exc:
        raise InvalidCheckpoint(f"{folder} holds no trained weights: {exc}") from exc
    return weights
