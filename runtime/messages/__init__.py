"""The vocabulary: every value that crosses a process boundary, a log or a layer.  Read this first.

One loop uses all of it: telemetry > observation > (features > action) > decision > outcome > reward.
Structs are immutable and keyword-only, validate themselves when built (a `ValueError` inside
`__post_init__` becomes a located decode error), and evolve by appending fields with defaults.
Instants end in `_at_s` and belong to the monotonic clock of the node that reports them;
only durations cross hosts.

    names.py     tiers, statuses, limits        decision.py   what is decided         views.py     what is reported and seen
    outcome.py   what became of a request       tensors.py    what tensors look like
    requests.py  messages of one request        control.py    messages about nodes          training.py  messages of a training job
    distribution.py   model files
    learning_task.py, transfer.py    what a training job trains, on what, and what it takes over from a base
    masking.py   messages of secure aggregation
    split_step.py, uploads.py    messages of the architectures in which more than updates leaves a client
"""

from __future__ import annotations

from runtime.messages.control import EpisodeStarted, Measure, Measured, Ping, Pong, StartEpisode, StatusQuery, StatusReport
from runtime.messages.decision import Decision
from runtime.messages.distribution import (
    CHUNK_BYTES,
    MAX_FILE_BYTES,
    Chunk,
    ChunkQuery,
    DistributionMessage,
    ManifestFound,
    ManifestQuery,
    NotHere,
    NotHereReason,
)
from runtime.messages.job_checks import MIN_HIDDEN
from runtime.messages.learning_task import DataSpec, NetworkSpec
from runtime.messages.masking import MASKED, KeyBook, KeyPair, KeyShares, Masking, MaskKeys, Revealed, SealedShares, Survivors
from runtime.messages.names import INF, MAX_NAME_CHARS, NUM_REQUEST_IDS, TIERS, WIRE_VERSION, DecidedBy, Reused, Status, Tier
from runtime.messages.outcome import Breakdown, Outcome
from runtime.messages.requests import Ack, Decided, Failure, Refused, Result, Span, Submit, Work
from runtime.messages.split_step import Leg, SplitStep
from runtime.messages.tensors import DType, TensorSpec
from runtime.messages.training import (
    Architecture,
    Contribution,
    Declined,
    FitJob,
    FitPhase,
    FitQuery,
    FitReady,
    FitReport,
    FitStart,
    FitStop,
    Gossip,
    Join,
    LocalSpec,
    MaskingCost,
    PeerState,
    PrivacyConfig,
    Role,
    Round,
    RoundRecord,
    SetTau,
    TauSpec,
    TrainingMessage,
    UpdateHeader,
)
from runtime.messages.transfer import MAX_DIGEST_CHARS, DistilSpec, TransferSpec
from runtime.messages.uploads import Upload, Uploaded, Wanted
from runtime.messages.views import JobView, LinkView, NodeTelemetry, NodeView, Observation, TenantBacklog

Message = (
    Submit
    | Observation
    | Decided
    | Refused
    | Work
    | Ack
    | Result
    | Failure
    | Outcome
    | Ping
    | Pong
    | StartEpisode
    | EpisodeStarted
    | Measure
    | Measured
    | StatusQuery
    | StatusReport
    | DistributionMessage
    | TrainingMessage
)

__all__ = [
    "WIRE_VERSION",
    "Tier",
    "TIERS",
    "Status",
    "DecidedBy",
    "Reused",
    "MAX_NAME_CHARS",
    "NUM_REQUEST_IDS",
    "INF",
    "MASKED",
    "MAX_DIGEST_CHARS",
    "MIN_HIDDEN",
    "Decision",
    "TenantBacklog",
    "NodeTelemetry",
    "NodeView",
    "LinkView",
    "JobView",
    "Observation",
    "Breakdown",
    "Outcome",
    "TensorSpec",
    "DType",
    "Submit",
    "Decided",
    "Refused",
    "Work",
    "Ack",
    "Span",
    "Result",
    "Failure",
    "Ping",
    "Pong",
    "StartEpisode",
    "EpisodeStarted",
    "Measure",
    "Measured",
    "StatusQuery",
    "StatusReport",
    "CHUNK_BYTES",
    "MAX_FILE_BYTES",
    "NotHereReason",
    "ManifestQuery",
    "ManifestFound",
    "ChunkQuery",
    "Chunk",
    "NotHere",
    "DistributionMessage",
    "Architecture",
    "Contribution",
    "DataSpec",
    "Declined",
    "DistilSpec",
    "FitJob",
    "FitPhase",
    "FitQuery",
    "FitReady",
    "FitReport",
    "FitStart",
    "FitStop",
    "Gossip",
    "Join",
    "KeyBook",
    "KeyPair",
    "KeyShares",
    "Leg",
    "MaskKeys",
    "Masking",
    "MaskingCost",
    "PeerState",
    "LocalSpec",
    "NetworkSpec",
    "PrivacyConfig",
    "Revealed",
    "Role",
    "Round",
    "RoundRecord",
    "SealedShares",
    "SetTau",
    "SplitStep",
    "Survivors",
    "TauSpec",
    "TrainingMessage",
    "TransferSpec",
    "UpdateHeader",
    "Upload",
    "Uploaded",
    "Wanted",
    "Message",
]
