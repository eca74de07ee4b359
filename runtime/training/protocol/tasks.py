"""What a node's trainer thread is asked to do, and what it answers.  Weights are float32 [P]."""

from __future__ import annotations

import msgspec
import numpy as np

from runtime.codecs.parcel import Parcel
from runtime.messages import Contribution, FitJob, Role, RoundRecord, UpdateHeader
from runtime.training.gossip import GossipState
from runtime.training.protocol.central_tasks import (
    CentralDone,
    CentralSteps,
    Held,
    PackedExamples,
    PackExamples,
    StoredExamples,
    StoreExamples,
)
from runtime.training.protocol.masking_tasks import MaskingResult, MaskingTask, Unmask
from runtime.training.protocol.split_tasks import SplitDone, SplitTask
from runtime.training.tau import ClientEstimate, LossSurface
from runtime.training.tau_control import TauState
from runtime.training.update import Update


class Prepare(msgspec.Struct, frozen=True, kw_only=True):
    """Make the network, load the data, find what was saved."""

    job: FitJob
    role: Role
    node: str
    """Name of the node, and of its folder."""
    client: int
    slowdown: float
    """Local steps take so many times what they take this host."""
    number: int = 0
    """Of the start that this is for, at its node."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Ready for the job, or why not."""

    job: str
    number: int = 0
    """That of its `Prepare`."""
    num_examples: int = 0
    num_parameters: int = 0
    weights: np.ndarray | None = None
    """Those to begin from; only where they are asked for: at the root, and at clients of a `local` job."""
    initial_loss: float | None = None
    """Of a network that nobody has trained yet, on the test split; at the root."""
    records: tuple[RoundRecord, ...] = ()
    """Of the rounds that were done before."""
    attempt: int = 0
    """Number of the last round that was begun before."""
    tau: TauState | None = None
    base: np.ndarray | None = None
    """What clients need of a base network, float32 [F]; only at the root of a job that transfers."""
    base_s: float = 0.0
    """How long the root trained it."""
    base_digest: str = ""
    """Of the base that a client holds already."""
    held: dict[str, Held] = {}
    """Examples that clients had uploaded before, at a centralised job's root."""
    error: str = ""


class LocalSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Take `tau` steps from these weights and write the update."""

    job: str
    round: int
    tau: int
    weights: Parcel
    """One tensor; a second one is the base."""
    compare: bool
    sent_round: int
    """Of the last update that left, -1 for none: what the compressor remembered of a later one is forgotten."""
    sealed: dict[int, bytes] = {}
    """Of a masked round: what the others sealed for this client; the update is masked with it."""


class LocalDone(msgspec.Struct, frozen=True, kw_only=True):
    """A client's update, ready to be sent."""

    job: str
    round: int
    header: UpdateHeader | None = None
    parameters: bytes = b""
    parcel: Parcel = Parcel()
    estimate: tuple[float, float] | None = None
    base_digest: str = ""
    """Of the base that it was trained on, if there is one."""
    compute_s: float = 0.0
    """Of the local steps: what comes before and after them, such as compression and the disk, is not among it."""
    error: str = ""
    """Why there is none."""


class CancelLocal(msgspec.Struct, frozen=True, kw_only=True):
    """A newer round came: stop the steps of the older one.  Not queued: it takes effect at the next step."""

    round: int
    """The round whose steps are to stop."""


class StepsTaken(msgspec.Struct, frozen=True, kw_only=True):
    """So many of a round's local steps are done: news on the way to LocalDone, not after every step."""

    job: str
    round: int
    num_steps: int


class Decode(msgspec.Struct, frozen=True, kw_only=True):
    """Read a contribution."""

    contribution: Contribution
    parcel: Parcel


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """An update as an array, or why it cannot be read."""

    job: str
    client: str
    round: int
    update: Update | None = None
    estimate: ClientEstimate | None = None
    gradient: np.ndarray | None = None
    error: str = ""


class Aggregate(msgspec.Struct, frozen=True, kw_only=True):
    """Make new weights of a round's updates."""

    job: str
    weights: np.ndarray
    updates: tuple[Update, ...]
    estimates: tuple[ClientEstimate, ...] = ()
    gradients: tuple[np.ndarray, ...] = ()
    sampled: float = 1.0
    """Share of the clients there were that was drawn: what privacy is accounted for."""
    upwards: UpdateHeader | None = None
    """An aggregator's header: its update against `base` is to be written for the node above."""
    base: np.ndarray | None = None
    sent_round: int = -1
    """As in LocalSteps."""
    unmask: Unmask | None = None
    """The updates are masked, and this takes the masks off their sum."""


class Aggregated(msgspec.Struct, frozen=True, kw_only=True):
    """New weights; with `upwards` also what goes up."""

    job: str
    weights: np.ndarray | None = None
    surface: LossSurface | None = None
    epsilon: float | None = None
    drift: float | None = None
    header: UpdateHeader | None = None
    parameters: bytes = b""
    parcel: Parcel = Parcel()
    error: str = ""


class Evaluate(msgspec.Struct, frozen=True, kw_only=True):
    """How good are these weights on the test split?"""

    job: str
    weights: np.ndarray


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """So good; None where there is no test split."""

    job: str
    accuracy: float | None = None
    test_loss: float | None = None
    error: str = ""


class Save(msgspec.Struct, frozen=True, kw_only=True):
    """Keep the root's state: whoever starts again goes on after these records."""

    job: str
    weights: np.ndarray
    records: tuple[RoundRecord, ...]
    attempt: int
    tau: TauState


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """It is on disk, or why not."""

    job: str
    error: str = ""


class GossipSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Mix in what came, then take `tau` steps."""

    job: str
    round: int
    tau: int
    state: GossipState
    incoming: tuple[GossipState, ...]


class GossipDone(msgspec.Struct, frozen=True, kw_only=True):
    """A peer's weights after its steps."""

    job: str
    round: int
    weight: float = 0.0
    vector: np.ndarray | None = None
    loss: float = 0.0
    compute_s: float = 0.0
    error: str = ""


class Assess(msgspec.Struct, frozen=True, kw_only=True):
    """How far apart are these peers, and how good is their mean, or where nobody averages how good are they?"""

    job: str
    states: tuple[GossipState, ...]


class Assessed(msgspec.Struct, frozen=True, kw_only=True):
    """That."""

    job: str
    accuracy: float | None = None
    test_loss: float | None = None
    consensus_distance: float | None = None
    error: str = ""


class Forget(msgspec.Struct, frozen=True, kw_only=True):
    """The job is over here: drop networks and data."""

    job: str


TrainerTask = (
    Prepare
    | LocalSteps
    | CancelLocal
    | Decode
    | Aggregate
    | Evaluate
    | Save
    | GossipSteps
    | Assess
    | Forget
    | SplitTask
    | PackExamples
    | StoreExamples
    | CentralSteps
    | MaskingTask
)
TrainerResult = (
    Prepared
    | StepsTaken
    | LocalDone
    | Decoded
    | Aggregated
    | Evaluated
    | Saved
    | GossipDone
    | Assessed
    | SplitDone
    | PackedExamples
    | StoredExamples
    | CentralDone
    | MaskingResult
)


class TrainerDone(msgspec.Struct, frozen=True, kw_only=True):
    """The trainer finished a task."""

    result: TrainerResult
    at_s: float
