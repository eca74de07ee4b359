"""What a client gives back after its local steps, and how a model's arrays become one vector and come back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from runtime.codecs.parcel import Parcel, unpack
from runtime.errors import InvalidTensor, MalformedMessage
from runtime.messages import UpdateHeader

__all__ = [
    "Defect",
    "Layout",
    "ParameterSpec",
    "Update",
    "UpdateHeader",
    "Vector",
    "find_defect",
    "has_sound_metrics",
    "make_update",
    "read_vector",
    "read_vectors",
]

Vector = np.ndarray
"""Float32 [P]: all parameters of a model, one after the other in the order of its `Layout`."""

FLOAT32 = np.dtype(np.float32)

MAX_MEASURED = 1e15
"""A petabyte, or thirty million years: more than a round takes, and a thousand of it still fit into the 64-bit integers of messages."""
MAX_LOSS = float(np.finfo(np.float32).max)

Defect = Literal["wrong_shape", "wrong_dtype", "not_finite"]
"""Why an update's array cannot be aggregated."""


class ParameterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Name and shape of one parameter array; all are float32."""

    name: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name or any(n < 0 for n in self.shape):
            raise InvalidTensor(f"a parameter has a name and no negative dimension, got {self.name!r} {self.shape}")

    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How a model's parameters lie in one vector: each in C order, in this order."""

    parameters: tuple[ParameterSpec, ...]

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        if len(set(names)) != len(names):
            raise InvalidTensor(f"parameter names must differ, got {names}")

    def size(self) -> int:
        """Number of elements of the whole vector, P."""
        return sum(parameter.size() for parameter in self.parameters)

    def flatten(self, arrays: Sequence[np.ndarray]) -> Vector:
        """Copy arrays of exactly these shapes into one float32 vector [P].  Raises InvalidTensor."""
        shapes = [array.shape for array in arrays]
        expected = [parameter.shape for parameter in self.parameters]
        if shapes != expected:
            raise InvalidTensor(f"arrays do not fit the layout: got shapes {shapes}, expected {expected}")
        if not arrays:
            return np.zeros(0, np.float32)
        return np.concatenate([np.ravel(array) for array in arrays]).astype(np.float32, copy=False)

    def unflatten(self, vector: Vector) -> list[np.ndarray]:
        """Views of a vector [P] in the shapes of the parameters.  Raises InvalidTensor."""
        if vector.shape != (self.size(),):
            raise InvalidTensor(f"vector does not fit the layout: got shape {vector.shape}, expected ({self.size()},)")
        ends = np.cumsum([parameter.size() for parameter in self.parameters])
        pieces = np.split(vector, ends[:-1]) if self.parameters else []
        return [piece.reshape(parameter.shape) for piece, parameter in zip(pieces, self.parameters, strict=True)]


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One client's contribution to one round: its local weights minus the global ones that it started from.

    The array is not checked here, so that a peer's bad one can be refused with a reason (`find_defect`).
    """

    header: UpdateHeader
    delta: Vector
    """Float32 [P]; of secure aggregation uint32 [P], masked."""


def make_update(header: UpdateHeader, *, local: Vector, start: Vector) -> Update:
    """The update of a client that went from weights `start` to `local`, both [P]."""
    return Update(header=header, delta=np.subtract(local, start, dtype=np.float32))


def find_defect(delta: np.ndarray, num_parameters: int, dtype: np.dtype[Any] = FLOAT32) -> Defect | None:
    """Why this array is no vector [num_parameters] of finite values and that dtype; None when it is one."""
    if delta.shape != (num_parameters,):
        return "wrong_shape"
    if delta.dtype != dtype:
        return "wrong_dtype"
    return None if np.isfinite(delta).all() else "not_finite"


def _is_measured(value: float) -> bool:
    """Whether this may be a duration, an energy or a number of bytes: sums of such numbers can be computed with, and written down."""
    return 0.0 <= value <= MAX_MEASURED


def has_sound_metrics(metrics: Mapping[str, float]) -> bool:
    """Whether there is a loss among them, a finite float32, and whether all others can have been measured."""
    others = (value for name, value in metrics.items() if name != "loss")
    return abs(metrics.get("loss", math.nan)) <= MAX_LOSS and all(map(_is_measured, others))


def read_vectors(parcel: Parcel) -> list[Vector]:
    """The tensors of a message if all are float32 vectors of finite values; else none."""
    try:
        tensors = unpack(parcel).tensors
    except MalformedMessage:
        return []
    return tensors if all(find_defect(tensor, tensor.size) is None for tensor in tensors) else []


def read_vector(parcel: Parcel, num_parameters: int) -> Vector | None:
    """The one tensor of a message, if it is a weight vector float32 [num_parameters] of finite values; else None."""
    vectors = read_vectors(parcel)
    return vectors[0] if len(vectors) == 1 and find_defect(vectors[0], num_parameters) is None else None
