"""What a codec is: a tensor in, a header and one frame out, and back."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec
import numpy as np

from runtime.codecs.header import AsIs, Parameters, TensorHeader
from runtime.codecs.raw import Frame, write_raw
from runtime.errors import MalformedMessage
from runtime.messages import TensorSpec

AS_IS = TensorHeader(parameters=AsIs())

_P = TypeVar("_P", bound=Parameters)


class EncodedTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor as a codec wrote it."""

    header: TensorHeader
    frame: Frame


class Codec(Protocol):
    """Writes tensors and reads them back.  Stateless: one object serves all threads.

    A lossy codec leaves dtypes alone that it is not for; each says which.
    """

    def encode(self, tensor: np.ndarray) -> EncodedTensor:
        """Write an array of a dtype in `DType`.  Raises InvalidTensor for values that the codec cannot write."""
        ...

    def decode(self, header: TensorHeader, frame: Frame, spec: TensorSpec) -> np.ndarray:
        """Read an array of exactly that spec.  Raises MalformedMessage when header and frame are no encoding of such an array.

        Allocates a small multiple of the spec's bytes at most; that the spec itself is sane is for the caller to see to.
        """
        ...

    def bytes_estimate(self, spec: TensorSpec) -> int:
        """Upper bound of the frame's bytes, without running the codec."""
        ...


def encode_as_is(tensor: np.ndarray) -> EncodedTensor:
    """The tensor's own bytes, without a copy if they are in C order."""
    return EncodedTensor(header=AS_IS, frame=write_raw(np.asarray(tensor, order="C")))


def parameters_of(header: TensorHeader, kind: type[_P]) -> _P:
    """The parameters of an uncompressed frame.  Raises MalformedMessage when they are another codec's."""
    if not isinstance(header.parameters, kind) or header.compressed:
        raise MalformedMessage(f"an uncompressed frame with {kind.__name__} parameters is due here, got {header}")
    return header.parameters
