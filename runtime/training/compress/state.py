"""What a sender of updates remembers from round to round, and how it survives a restart."""

from __future__ import annotations

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from runtime.errors import InvalidCheckpoint

_EMPTY = np.zeros(0, dtype=np.float32)


class CompressorState(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one sender.  Arrays are float32 [num_elements], or empty where a compressor keeps none."""

    num_elements: int
    round_number: int = 0
    """Rounds sent so far."""
    residual: np.ndarray = _EMPTY
    """What has been handed in and not yet been sent."""
    momentum: np.ndarray = _EMPTY
    """Velocity of the momentum correction."""


def save_state(state: CompressorState) -> bytes:
    """A state in the safetensors format."""
    counts = np.array([state.num_elements, state.round_number], dtype=np.int64)
    return save({"counts": counts, "residual": state.residual, "momentum": state.momentum})


def load_state(data: bytes) -> CompressorState:
    """What `save_state` wrote.  Raises InvalidCheckpoint when it is anything else."""
    try:
        arrays = load(data)
        num_elements, round_number = (int(count) for count in arrays["counts"])
        residual, momentum = arrays["residual"], arrays["momentum"]
    except (SafetensorError, KeyError, ValueError, TypeError) as exc:
        raise InvalidCheckpoint(f"{len(data)} bytes are no compressor state: {exc}") from exc
    for array in (residual, momentum):
        if array.dtype != np.float32 or array.shape not in ((num_elements,), (0,)) or not np.isfinite(array).all():
            raise InvalidCheckpoint(f"a compressor state of {num_elements} elements has an array {array.dtype}{list(array.shape)}")
    if num_elements < 0 or round_number < 0:
        raise InvalidCheckpoint(f"a compressor state counts {num_elements} elements and {round_number} rounds")
    return CompressorState(num_elements=num_elements, round_number=round_number, residual=residual, momentum=momentum)
