"""What a federated run is remembered by: one record per round, as lines of JSON behind a header line.

Made of a live job's records, read by whoever fits the convergence model to them (runtime/training/convergence_fit.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from runtime.errors import InvalidInput
from runtime.files import write_atomically
from runtime.messages import RoundRecord


class RecordedRound(msgspec.Struct, frozen=True, kw_only=True):
    """One round, from the hand-out of global weights to the next ones."""

    round: int
    """0-based."""
    tau: int
    """Local steps of each client."""
    num_clients: int
    """Whose updates were aggregated."""
    loss: float
    """Of the weights after the aggregation, on the clients' examples together; not finite where the run diverged."""
    accuracy: float | None = None
    """Of the same weights, 0..1."""
    compute_s: float = 0.0
    """Local steps of the slowest client."""
    transfer_s: float = 0.0
    """Weights down and updates up, of the slowest client; waiting for links included."""
    waiting_s: float = 0.0
    """The rest of the round."""
    up_bytes: int = 0
    """Over the uplinks of all clients together."""
    down_bytes: int = 0

    def __post_init__(self) -> None:
        if self.round < 0 or self.tau < 1 or self.num_clients < 1:
            raise ValueError(f"a round needs round >= 0, tau >= 1 and num_clients >= 1, got {self.round}, {self.tau}, {self.num_clients}")
        seconds = (self.compute_s, self.transfer_s, self.waiting_s)
        if not all(0.0 <= value < math.inf for value in seconds) or min(self.up_bytes, self.down_bytes) < 0:
            raise ValueError(f"seconds and bytes of a round must be finite and >= 0, got {seconds}, {self.up_bytes}, {self.down_bytes}")

    @property
    def seconds(self) -> float:
        """The whole round."""
        return self.compute_s + self.transfer_s + self.waiting_s


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One run: plain SGD on the clients, their mean in between."""

    learning_rate: float
    initial_loss: float
    """Before the first round."""
    rounds: tuple[RecordedRound, ...]
    """In order."""

    def __post_init__(self) -> None:
        if not (0.0 < self.learning_rate < math.inf and math.isfinite(self.initial_loss)):
            raise ValueError(f"a recording needs a learning rate > 0 and a finite loss, got {self.learning_rate}, {self.initial_loss}")
        if [record.round for record in self.rounds] != list(range(len(self.rounds))):
            raise ValueError("a recording has its rounds in order, from 0, none missing")


def recording_of(records: Sequence[RoundRecord], learning_rate: float, initial_loss: float) -> Recording:
    """A live job's rounds, in order, by the loss of their new weights on the test split.

    Raises InvalidInput when a round was not evaluated: its own loss is that of minibatches on the way, which is another thing.
    """
    skipped = [record.round for record in records if record.test_loss is None]
    if skipped:
        raise InvalidInput(f"rounds {skipped[:5]} have no test loss; have the job evaluate after every round")
    rounds = tuple(
        RecordedRound(
            round=number, tau=record.tau, num_clients=len(record.clients), loss=record.test_loss or 0.0, accuracy=record.accuracy,
            compute_s=record.compute_s, transfer_s=record.transfer_s, waiting_s=record.waiting_s,
            up_bytes=record.up_bytes[0], down_bytes=record.down_bytes[0],
        )
        for number, record in enumerate(records)
    )  # fmt: skip
    return Recording(learning_rate=learning_rate, initial_loss=initial_loss, rounds=rounds)


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    learning_rate: float
    initial_loss: float


def save_recording(recording: Recording, path: Path) -> None:
    """Write atomically, a JSON value per line."""
    header = _Header(learning_rate=recording.learning_rate, initial_loss=recording.initial_loss)
    write_atomically(path, b"".join(msgspec.json.encode(line) + b"\n" for line in (header, *recording.rounds)))


def load_recording(path: Path) -> Recording:
    """What `save_recording` wrote.  Raises InvalidInput for a file that is missing, torn or something else."""
    try:
        first, *rest = path.read_bytes().splitlines()
        header = msgspec.json.decode(first, type=_Header)
        rounds = tuple(msgspec.json.decode(line, type=RecordedRound) for line in rest)
        return Recording(learning_rate=header.learning_rate, initial_loss=header.initial_loss, rounds=rounds)
    except OSError as exc:
        raise InvalidInput(f"cannot read the recorded rounds {path}: {exc.strerror}") from exc
    except (ValueError, msgspec.MsgspecError) as exc:
        raise InvalidInput(f"{path} does not hold recorded rounds: {exc}; expected a header line and a line per round") from exc
