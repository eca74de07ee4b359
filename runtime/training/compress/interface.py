"""What a compressor is: an update vector and what the sender remembers in, frames and what it remembers next out.

    Operator     vector -> frames, nothing remembered: quantisation, sparsification, and one inside the other
    Compressor   an operator with a memory between rounds: none, the error it made, or the momentum as well

A compressor's name travels with the job, so a header says only what depends on the values.  The state is returned and not
changed in place: whoever could not send a message goes on with the state that it had.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np

from runtime.codecs.header import TensorHeader
from runtime.codecs.raw import Frame
from runtime.errors import InvalidTensor, MalformedMessage
from runtime.training.compress.state import CompressorState


class Compressed(msgspec.Struct, frozen=True, kw_only=True):
    """One update as it crosses a link."""

    header: TensorHeader
    frames: tuple[Frame, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of the frames."""
        return sum(len(frame) for frame in self.frames)


class Operator(Protocol):
    """Writes float32 vectors [n] and reads them back.  Stateless: one object serves all threads."""

    num_frames: int
    """Always so many."""

    def encode(self, vector: np.ndarray, rng: np.random.Generator) -> Compressed:
        """Write finite values; what is random is drawn from `rng`."""
        ...

    def decode(self, compressed: Compressed, num_elements: int) -> np.ndarray:
        """Read float32 [num_elements].  Raises MalformedMessage; allocates a small multiple of the vector's bytes at most."""
        ...

    def bytes_estimate(self, num_elements: int) -> int:
        """Upper bound of the frames' bytes."""
        ...


class Compressor(Protocol):
    """What a sender and a receiver of updates call.  Stateless: the memory is the caller's `CompressorState`."""

    def start(self, num_elements: int) -> CompressorState:
        """What is remembered before the first round."""
        ...

    def compress(self, vector: np.ndarray, state: CompressorState, rng: np.random.Generator) -> tuple[Compressed, CompressorState]:
        """Write float32 [n]; the state is the one to go on with once the message has left.

        Raises InvalidTensor for another dtype or shape than the state's, infinities and NaN.
        """
        ...

    def decompress(self, compressed: Compressed, num_elements: int) -> np.ndarray:
        """Read float32 [num_elements].  Raises MalformedMessage; bounded like `Operator.decode`."""
        ...

    def bytes_estimate(self, num_elements: int, round_number: int = 0) -> int:
        """Upper bound of the frames' bytes in that round, without running the compressor."""
        ...

    def for_rounds(self, num_rounds: int) -> Compressor:
        """The same for a job in which a sender has so many rounds, at least one: what changes on the way follows the job's length."""
        ...


def check_update(vector: np.ndarray, state: CompressorState) -> None:
    """Raise InvalidTensor unless it is float32 [n], finite, and as long as what is remembered."""
    if vector.dtype != np.float32 or vector.ndim != 1:
        raise InvalidTensor(f"an update is float32 [n], got {vector.dtype}{list(vector.shape)}")
    if vector.size != state.num_elements:
        raise InvalidTensor(f"the state is for updates of {state.num_elements} elements, got {vector.size}; start a new one")
    check_finite(vector)


def check_finite(vector: np.ndarray) -> None:
    """Raise InvalidTensor for infinities and NaN: averaged, they would ruin every node's model."""
    if not np.isfinite(vector).all():
        raise InvalidTensor("an update has infinities or NaN; lower the learning rate or clip the gradients")


def check_received(compressed: Compressed, num_frames: int) -> None:
    """Raise MalformedMessage for another number of frames."""
    if len(compressed.frames) != num_frames:
        raise MalformedMessage(f"{num_frames} frames are due here, got {len(compressed.frames)}")


def read_floats(frame: Frame, count: int) -> np.ndarray:
    """float32 [count], all finite, a read-only view.  Raises MalformedMessage."""
    if len(frame) != 4 * count:
        raise MalformedMessage(f"{count} float32 values have {4 * count} bytes, got {len(frame)}")
    values = np.frombuffer(frame, np.float32)
    if not np.isfinite(values).all():
        raise MalformedMessage("a received update has infinities or NaN")
    return values
