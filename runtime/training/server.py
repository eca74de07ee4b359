"""What an aggregating node computes: new weights of a round's updates; and how its state survives a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from runtime.errors import InvalidCheckpoint, InvalidTensor, MalformedMessage
from runtime.files import write_atomically
from runtime.messages import FitJob, Role, RoundRecord
from runtime.training.aggregation import find_aggregator
from runtime.training.aggregation.server_optimiser import Plain
from runtime.training.aggregation.server_state import ServerState, decode_state, encode_state
from runtime.training.drift import measure_drift
from runtime.training.privacy import account, private_mean
from runtime.training.protocol.tasks import Aggregate, Save
from runtime.training.sampling import num_drawn
from runtime.training.tau import LossSurface, combine_estimates
from runtime.training.tau_control import TauState
from runtime.training.update import find_defect

WEIGHTS_NAME, RECORDS_NAME, RELEASES_NAME = "state.safetensors", "rounds.json", "releases.json"

_Releases = dict[Annotated[float, msgspec.Meta(gt=0, le=1)], Annotated[int, msgspec.Meta(ge=0)]]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A root's state beside its weights."""

    records: tuple[RoundRecord, ...]
    attempt: int
    tau: TauState
    weights_name: str
    """The file that belongs to these records: a crash between the two writes leaves the older pair in force."""


class Combined(NamedTuple):
    """Of one round."""

    weights: np.ndarray
    surface: LossSurface | None
    epsilon: float | None
    drift: float | None


class Server:
    """One job's aggregation at one node.  Raises InvalidConfig for an aggregator that does not exist.

    Edges combine by the job's rule and no more: a server optimiser is the root's, for weights that nobody replaces.
    """

    def __init__(self, job: FitJob, num_parameters: int, role: Role = "root") -> None:
        self._job, self._num_parameters = job, num_parameters
        aggregator = find_aggregator(job.aggregator)
        self._aggregator = aggregator if role == "root" else msgspec.structs.replace(aggregator, optimiser=Plain())
        self._state: ServerState = self._aggregator.start(num_parameters)
        self._releases: dict[float, int] = {}
        """Private sums that have left, whether a record tells of them or not: how many of each share of the clients."""
        self._noise = np.random.default_rng()  # not of job.seed: every node is told it, and a restart would begin it again

    def combine(self, task: Aggregate, folder: Path | None = None) -> Combined:
        """New weights float32 [P].  Raises what aggregators raise; the state is then as before.

        Under privacy the release is counted in `folder` before anybody has it: a round that is played again after a crash has cost
        twice.  Raises OSError where that cannot be written; nothing is released then.
        """
        surface = combine_estimates(task.estimates, task.gradients) if task.estimates else None
        privacy = self._job.privacy
        if privacy is None:
            weights, self._state = self._aggregator.aggregate(task.weights, task.updates, self._state)
            return Combined(weights, surface, None, measure_drift(task.updates))
        num_expected = num_drawn(self._job.sample_fraction, self._job.data.num_clients)  # public, whoever came
        mean = private_mean(task.updates, privacy, float(num_expected), self._noise)
        weights = np.add(task.weights, mean, dtype=np.float32)
        if (defect := find_defect(weights, self._num_parameters)) is not None:
            raise InvalidTensor(f"new weights are {defect}")
        self._count_release(task.sampled, folder)
        epsilon = account(privacy, self._releases).epsilon if privacy.noise_multiplier else None
        return Combined(weights, surface, epsilon, None)  # what is promised of single updates is not told of them

    def _count_release(self, sampled: float, folder: Path | None) -> None:
        releases = self._releases | {sampled: self._releases.get(sampled, 0) + 1}
        if folder is not None:
            write_atomically(folder / RELEASES_NAME, msgspec.json.encode(releases))
        self._releases = releases

    def save(self, task: Save, folder: Path) -> None:
        """Weights first, then the records that name their file, then what neither needs is removed.  Raises OSError."""
        name = f"{task.attempt}.{WEIGHTS_NAME}"
        tensors = {"weights": task.weights, "server": np.frombuffer(encode_state(self._state), dtype=np.uint8)}
        write_atomically(folder / name, save_tensors(tensors))
        kept = Kept(records=task.records, attempt=task.attempt, tau=task.tau, weights_name=name)
        write_atomically(folder / RECORDS_NAME, msgspec.json.encode(kept))
        for old in folder.glob(f"*.{WEIGHTS_NAME}"):
            if old.name != name:
                old.unlink(missing_ok=True)

    def load(self, folder: Path) -> tuple[Kept, np.ndarray] | None:
        """Where the job was left, with its weights; None when it was not begun.  Raises InvalidCheckpoint for another job's state."""
        path, counted = folder / RECORDS_NAME, folder / RELEASES_NAME
        try:
            if self._job.privacy is not None and (path.is_file() or counted.is_file()):
                self._releases = msgspec.json.decode(counted.read_bytes(), type=_Releases)
            if not path.is_file():
                return None
            kept = msgspec.json.decode(path.read_bytes(), type=Kept)
            tensors = load_tensors((folder / Path(kept.weights_name).name).read_bytes())
            weights = tensors["weights"]
            state = decode_state(tensors["server"].tobytes(), self._aggregator.start(self._num_parameters))
        except (OSError, KeyError, ValueError, msgspec.MsgspecError, SafetensorError, MalformedMessage) as exc:
            raise InvalidCheckpoint(
                f"{folder} holds no state of job {self._job.name!r} to go on from: {exc}; remove that folder to begin anew"
            ) from exc
        if (defect := find_defect(weights, self._num_parameters)) is not None:
            raise InvalidCheckpoint(f"{folder} holds weights that are {defect} for this network of {self._num_parameters} values")
        self._state = state
        return kept, weights
