"""Events that reach a node's state machine, and the instructions it gives back."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from runtime.codec import Frame
from runtime.codecs.parcel import Parcel
from runtime.inference.cache.fingerprint import Fingerprint, Sketcher
from runtime.inference.difficulty import DifficultyPredictor
from runtime.messages import Ack, Failure, Message, NotHereReason, Result, Work
from runtime.models.manifest import StoredFile
from runtime.models.pieces import Piece
from runtime.training.protocol.tasks import TrainerDone, TrainerTask

Source = Literal["down", "up", "controller", "neighbour"]
"""Where a message comes from or goes to; `neighbour` is a node of the same tier that this one hands work to."""

OF_REQUESTS = (Ack, Failure, Result, Work)
"""Messages between nodes about a request; what else they say belongs to no episode."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A valid message arrived: from a peer below, from the node above, from a neighbour, or from the controller."""

    source: Source
    message: Message
    parcel: Parcel
    """Its tensors, not decoded yet."""
    num_bytes: int
    at_s: float
    peer: bytes = b""
    """Which of those below, or which neighbour."""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes arrived that were not a message."""

    reason: str
    at_s: float


class Computed(msgspec.Struct, frozen=True, kw_only=True):
    """The worker finished a Run."""

    request_id: int
    parcel: Parcel
    """The tensors of the next cut, encoded, or the logits of `exit`."""
    exit: int | None
    started_at_s: float
    finished_at_s: float
    at_s: float
    codec_s: float = 0.0
    """Of that time: decoding the input and encoding the output."""
    error: str = ""
    bad_input: bool = False
    """The error is the input's fault."""
    overran: bool = False
    """The host took longer than the emulated tier would have."""
    batch: int = 1
    """Runs that were computed together, this one included; 0 when there was nothing to compute."""


class ComputedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The worker finished a RunBatch.  Every row has the batch's instants: it was there all the time."""

    rows: tuple[Computed, ...]
    at_s: float
    overran: bool = False
    """Of what was computed as one; rows that were computed one by one say it each."""


class MeasuredRun(msgspec.Struct, frozen=True, kw_only=True):
    """The worker finished a RunMeasure."""

    request_id: int
    tier_s: tuple[float, ...]
    host_s: tuple[float, ...]
    at_s: float
    error: str = ""


class Inspected(msgspec.Struct, frozen=True, kw_only=True):
    """An Inspect was carried out."""

    request_id: int
    parcel: Parcel
    """The one that was looked at: ids may be used again, parcels are themselves."""
    started_at_s: float
    finished_at_s: float
    at_s: float
    fingerprint: Fingerprint | None = None
    thumbnail: np.ndarray | None = None
    difficulty: tuple[float, ...] = ()
    """As in Observation."""
    error: str = ""
    """Why the input cannot be looked at; its sender's fault."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A Load was carried out, or could not be."""

    piece: Piece
    at_s: float
    missing: tuple[StoredFile, ...] = ()
    """Files that are not here, or corrupt: fetch them and load again."""
    error: str = ""
    """Why it cannot be loaded, whatever is fetched."""


class FileKept(msgspec.Struct, frozen=True, kw_only=True):
    """A KeepFile was carried out, or could not be."""

    sha256: str
    at_s: float
    reason: NotHereReason | None = None
    """None: it is here now, verified."""
    error: str = ""


class PartRead(msgspec.Struct, frozen=True, kw_only=True):
    """A ReadPart was carried out."""

    part: ReadPart
    at_s: float
    data: bytes | None
    """None: the file is not here."""
    num_bytes: int = 0
    """Of the whole file."""


class Undelivered(msgspec.Struct, frozen=True, kw_only=True):
    """A Send was refused by its socket: nobody connected there, or its queue is full."""

    target: Source
    request_id: int
    at_s: float


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """Time passed: do what is due."""

    at_s: float
    memory_bytes: int = 0


Event = (
    Received
    | Rejected
    | Computed
    | ComputedBatch
    | MeasuredRun
    | Inspected
    | Loaded
    | FileKept
    | PartRead
    | TrainerDone
    | Undelivered
    | Tick
)


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """Give frames to a socket, not before `release_at_s` (0: now)."""

    target: Source
    frames: list[Frame]
    peer: bytes = b""
    release_at_s: float = 0.0
    request_id: int = -1
    """Whose fate depends on it; -1 for nobody's."""
    of_request: bool = False
    """One of OF_REQUESTS: not sent any more once a new episode begins."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Let the worker decode a parcel, compute a segment (none when start == stop) and encode what goes on."""

    request_id: int
    model: str
    variant: str
    start: int
    stop: int
    exit: int | None
    """Whose head follows, where the segment ends the request."""
    early: tuple[int, ...] = ()
    """Exits on the way where the request leaves if they are confident."""
    parcel: Parcel
    codec: str
    """For the tensors of cut `stop`; logits are never encoded."""
    slowdown: float
    """More than 1: take so many times the reference time of what was run (emulated tiers)."""


class Inspect(msgspec.Struct, frozen=True, kw_only=True):
    """Look at an input: what it is known by, what it looks like when small, how hard it is."""

    request_id: int
    parcel: Parcel
    digest: bool
    """Whether a fingerprint is wanted."""
    sketcher: Sketcher | None = None
    """Makes the fingerprint's sketch, if one is wanted."""
    thumbnail_side: int = 0
    """Cells a side of the thumbnail; 0 for none."""
    difficulty: DifficultyPredictor | None = None
    """Tells how likely each exit errs, if that is wanted."""
    slowdown: float = 1.0
    """As in Run."""


class RunBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Let the worker do two runs or more of one segment, without early exits, as one."""

    rows: tuple[Run, ...]
    fixed_fraction: float
    """Emulated tiers only: the share of one run's time that the batch pays once (`affine_batch_s`)."""


class RunMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """Let the worker time a segment."""

    request_id: int
    model: str
    variant: str
    start: int
    stop: int
    exit: int | None
    repeats: int
    pace_s: float


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Make a piece ready to run, from files that are here; hold those until it is loaded or unloaded."""

    piece: Piece


class Unload(msgspec.Struct, frozen=True, kw_only=True):
    """Free what a piece takes, or give up loading it."""

    piece: Piece


class KeepFile(msgspec.Struct, frozen=True, kw_only=True):
    """Verify a file that came from above, and keep it."""

    sha256: str
    chunks: tuple[bytes, ...]


class ReadPart(msgspec.Struct, frozen=True, kw_only=True):
    """Read some of a file, for a node below."""

    peer: bytes
    sha256: str
    offset: int
    fetched: bool = False
    """It was fetched for this; so it is not fetched again."""


class UseController(msgspec.Struct, frozen=True, kw_only=True):
    """Ask this address for decisions from now on; empty: ask nobody."""

    address: str


class DropHeld(msgspec.Struct, frozen=True, kw_only=True):
    """An episode begins, with empty links: drop what is held back about requests of the last one."""


Instruction = Send | DropHeld | Run | RunBatch | RunMeasure | Inspect | Load | Unload | KeepFile | ReadPart | UseController | TrainerTask
