"""Small fitted models on disk: one safetensors file whose metadata holds a typed JSON card.  Data only."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as pack_tensors

from runtime.errors import InvalidPredictor
from runtime.files import write_atomically
from runtime.inference.logistic import Logistic

MAX_FILE_BYTES = 4 << 20
"""A predictor of 100 features and 10 exits takes 25 kB."""
_CARD = "drlctl"
_LENGTH = struct.Struct("<Q")
"""A safetensors file begins with the length of its JSON header."""

C = TypeVar("C", bound=msgspec.Struct)


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)


def save_predictor(path: Path, card: msgspec.Struct, models: tuple[Logistic, ...]) -> None:
    """Write models of the same features and the card that says what they are.  Raises OSError, the old file intact."""
    tensors = {
        "bias": np.array([model.bias for model in models]),
        "mean": np.stack([model.mean for model in models]),
        "scale": np.stack([model.scale for model in models]),
        "weights": np.stack([model.weights for model in models]),
    }
    write_atomically(path, pack_tensors(tensors, metadata={_CARD: msgspec.json.encode(card).decode()}))


def load_predictor(path: Path, card_type: type[C], num_features: int) -> tuple[C, tuple[Logistic, ...]]:
    """Read and check what `save_predictor` wrote.  Raises InvalidPredictor with what is wrong and what to do."""
    data = _read(path)
    try:
        (length,) = _LENGTH.unpack_from(data)
        header = msgspec.json.decode(data[_LENGTH.size : _LENGTH.size + length], type=_Header)
        card = msgspec.json.decode(header.metadata[_CARD], type=card_type)
        tensors = parse_tensors(data)
    except (SafetensorError, msgspec.MsgspecError, struct.error, ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
        raise InvalidPredictor(f"{path} is not a predictor of this kind: {exc}; fit it again") from exc
    _check(path, tensors, num_features)
    rows = zip(tensors["mean"], tensors["scale"], tensors["weights"], tensors["bias"], strict=True)
    return card, tuple(Logistic(mean=mean, scale=scale, weights=weights, bias=float(bias)) for mean, scale, weights, bias in rows)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise InvalidPredictor(f"cannot read the predictor {path}: {exc.strerror}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise InvalidPredictor(f"{path} has more than {MAX_FILE_BYTES} bytes; a predictor is smaller")
    return data


def _check(path: Path, tensors: dict[str, np.ndarray], num_features: int) -> None:
    if sorted(tensors) != ["bias", "mean", "scale", "weights"]:
        raise InvalidPredictor(f"{path} holds tensors {sorted(tensors)}, expected bias, mean, scale and weights")
    shape = (tensors["bias"].size, num_features)
    for name, tensor in tensors.items():
        expected = shape[:1] if name == "bias" else shape
        if tensor.dtype != np.float64 or tensor.shape != expected:
            raise InvalidPredictor(f"{path}: {name} is {tensor.dtype}{list(tensor.shape)}, expected float64{list(expected)}; fit it again")
        if not np.isfinite(tensor).all():
            raise InvalidPredictor(f"{path}: {name} is not finite")
    if not (tensors["scale"] > 0).all():
        raise InvalidPredictor(f"{path}: scale must be > 0 everywhere")
