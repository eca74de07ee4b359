"""`identity`: the bytes as they are.  What the others are compared with."""

from __future__ import annotations

import numpy as np

from runtime.codecs.header import AsIs, TensorHeader
from runtime.codecs.interface import EncodedTensor, encode_as_is, parameters_of
from runtime.codecs.raw import Frame, raw_bytes, read_raw
from runtime.messages import TensorSpec


class Identity:
    """Every dtype, exact, zero-copy both ways."""

    def encode(self, tensor: np.ndarray) -> EncodedTensor:
        """The tensor's own memory."""
        return encode_as_is(tensor)

    def decode(self, header: TensorHeader, frame: Frame, spec: TensorSpec) -> np.ndarray:
        """A read-only view of the frame."""
        parameters_of(header, AsIs)
        return read_raw(frame, spec)

    def bytes_estimate(self, spec: TensorSpec) -> int:
        """Exact."""
        return raw_bytes(spec)
