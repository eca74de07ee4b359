"""Updates between nodes: written by whoever sends, with its compressor's memory; read by whoever aggregates."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from runtime.codecs.header import TensorHeader
from runtime.codecs.parcel import Parcel, pack, unpack
from runtime.errors import DrlctlError, InvalidInput
from runtime.files import write_atomically
from runtime.messages import FitJob
from runtime.training.compress import Compressed, CompressorState, find_compressor, load_state, save_state
from runtime.training.protocol.tasks import Decode, Decoded
from runtime.training.sketch import Sketch
from runtime.training.tau import ClientEstimate
from runtime.training.update import Update

MEMORY_NAME = "compressor.safetensors"


class Written(NamedTuple):
    """An update as it is sent: the compressor's header as msgpack, and its frames."""

    parameters: bytes
    parcel: Parcel


class Exchange:
    """One node's side.  `num_gradient` is the length of the gradients of which clients send sketches for adaptive tau.

    Raises InvalidConfig for a compressor that does not exist.
    """

    def __init__(self, job: FitJob, num_parameters: int, num_gradient: int, seed: int) -> None:
        self._job, self._num_parameters = job, num_parameters
        self._sketch = Sketch(num_gradient, job.seed)
        self._compressor = find_compressor(job.compressor, job.rounds)
        self._memory = self._compressor.start(num_parameters)
        self._after: CompressorState | None = None
        self._after_round = -1
        self._rng = np.random.default_rng([job.seed, seed])

    def write(self, update: np.ndarray, gradient: np.ndarray | None, *, number: int, sent_round: int) -> Written:
        """Write float32 [P] and perhaps a gradient's sketch, for the round of that `number`.

        What the compressor remembered of the last update counts if that is the one that left: one that was written for a round
        which was over by then has brought nothing to anybody.
        """
        if self._after is not None and self._after_round == sent_round:
            self._memory = self._after
        compressed, self._after = self._compressor.compress(update, self._memory, self._rng)
        self._after_round = number
        tensors = [np.frombuffer(frame, dtype=np.uint8) for frame in compressed.frames]
        parcel = pack(tensors if gradient is None else [*tensors, self._sketch(gradient)])
        return Written(msgspec.msgpack.encode(compressed.header), parcel)

    def read(self, task: Decode) -> Decoded:
        """Read a contribution.  What is no update of this job comes back as an error."""
        contribution, header = task.contribution, task.contribution.header
        about = Decoded(job=contribution.job, client=header.client, round=header.round)
        try:
            if contribution.compressor != self._job.compressor:
                raise InvalidInput(f"the job says {self._job.compressor!r}, the update came as {contribution.compressor!r}")
            tensors = unpack(task.parcel).tensors
            gradient = tensors.pop() if contribution.estimate is not None and tensors else None
            parameters = msgspec.msgpack.decode(contribution.parameters, type=TensorHeader)
            compressed = Compressed(header=parameters, frames=tuple(tensor.data.cast("B") for tensor in tensors))
            delta = self._compressor.decompress(compressed, self._num_parameters)
        except (DrlctlError, msgspec.MsgspecError, ValueError, TypeError) as exc:
            return msgspec.structs.replace(about, error=str(exc))
        return msgspec.structs.replace(about, update=Update(header=header, delta=delta), **self._estimate(task, gradient))

    def _estimate(self, task: Decode, gradient: np.ndarray | None) -> dict[str, object]:
        """A client's estimate, if its gradient is one."""
        values = task.contribution.estimate
        if values is None or gradient is None or gradient.dtype != np.float32 or gradient.shape != (self._sketch.size,):
            return {}
        estimate = ClientEstimate(num_examples=task.contribution.header.num_examples, lipschitz=values[0], smoothness=values[1])
        return {"estimate": estimate, "gradient": gradient}

    def keep(self, folder: Path) -> None:
        """Write the memory after the last update.  Raises OSError."""
        if self._after is not None:
            write_atomically(folder / MEMORY_NAME, save_state(self._after))

    def recall(self, folder: Path) -> None:
        """Go on with the memory that was kept, if there is one, as if its update had left.  Raises InvalidCheckpoint."""
        if (folder / MEMORY_NAME).is_file():
            self._memory = load_state((folder / MEMORY_NAME).read_bytes())
