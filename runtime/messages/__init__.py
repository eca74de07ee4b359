"""The vocabulary: every value that crosses a process boundary, a log or a layer.  Read this first.

One loop uses all of it: telemetry > observation > (features > action) > decision > outcome > reward.
Structs are immutable and keyword-only, validate themselves when built (a `ValueError` inside
`__post_init__` becomes a located decode error), and evolve by appending fields with defaults.
Instants end in `_at_s` and belong to the monotonic clock of the node that reports them;
only durations cross hosts.

    names.py     tiers, statuses, limits        decision.py   what is decided         views.py     what is reported and seen
    outcome.py   what became of a request       tensors.py    what tensors look like
    requests.py  messages of one request        control.py    messages about nodes          training.py  messages of a training job
"""

from __future__ import annotations

from runtime.messages.control import EpisodeStarted, Measure, Measured, Ping, Pong, StartEpisode, StatusQuery, StatusReport
from runtime.messages.decision import Decision
from runtime.messages.names import INF, MAX_NAME_CHARS, TIERS, WIRE_VERSION, DecidedBy, Reused, Status, Tier
from runtime.messages.outcome import Breakdown, Outcome
from runtime.messages.requests import Ack, Decided, Failure, Refused, Result, Span, Submit, Work
from runtime.messages.tensors import DType, TensorSpec
from runtime.messages.training import (
    Architecture,
    Contribution,
    DataSpec,
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
    NetworkSpec,
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
from runtime.messages.views import LinkView, NodeTelemetry, NodeView, Observation, TenantBacklog

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
    "INF",
    "Decision",
    "TenantBacklog",
    "NodeTelemetry",
    "NodeView",
    "LinkView",
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
    "Architecture",
    "Contribution",
    "DataSpec",
    "Declined",
    "FitJob",
    "FitPhase",
    "FitQuery",
    "FitReady",
    "FitReport",
    "FitStart",
    "FitStop",
    "Gossip",
    "Join",
    "PeerState",
    "LocalSpec",
    "NetworkSpec",
    "PrivacyConfig",
    "Role",
    "Round",
    "RoundRecord",
    "SetTau",
    "TauSpec",
    "TrainingMessage",
    "UpdateHeader",
    "Message",
]
