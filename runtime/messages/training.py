"""Messages of a training job, from its start to its end, and what a job is.

session ──FitStart──► every node ──FitReady──► session          the job's description, each node's role in it
client  ──Join──────► aggregator                                 until it is given work
aggregator ──Round──► clients ──Contribution──► aggregator       weights down, updates up
session ──FitQuery──► the root ──FitReport──► session            how far it is

Where other than updates leave a client: uploads.py (centralised), split_step.py (split).
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from runtime.errors import InvalidConfig
from runtime.messages.job_checks import check_combination
from runtime.messages.learning_task import DataSpec, NetworkSpec
from runtime.messages.masking import Masking, MaskingMessage
from runtime.messages.names import INF, MAX_NAME_CHARS, complain
from runtime.messages.split_step import SplitStep
from runtime.messages.transfer import MAX_DIGEST_CHARS, TransferSpec
from runtime.messages.uploads import Upload, Uploaded, Wanted

Architecture = Literal["local", "federated", "hierarchical", "centralised", "gossip", "split"]
"""`local`: every client trains for itself, and nothing of it leaves.  `federated` is `hierarchical` with one edge round per cloud round."""

Role = Literal["root", "aggregator", "relay", "server", "client", "observer", "peer"]
"""Of a node in a job: above all others, between and averaging, between and passing on, between and with the stages behind the
cut of a split network, with data of its own; and without a server whoever watches, and whoever learns."""

FitPhase = Literal["joining", "training", "done", "failed"]


class LocalSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a client trains."""

    learning_rate: float = 0.1
    momentum: float = 0.0
    """Each client's own, carried from round to round: where clients' classes differ it drags weights that are no longer theirs, and
    costs several points (docs/fit.md).  0 also behind a compressor that has a momentum (dgc)."""
    batch_size: int = 32
    proximal: float = 0.0
    """mu of FedProx; 0 is FedAvg."""
    max_gradient_norm: float = 0.0
    """Longer gradients (proximal term included) are scaled down to it; 0: none are."""
    seed: int = 0
    """Of the order of examples and of dropout; give each client its own."""

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and 0 <= self.momentum < 1 and self.batch_size >= 1):
            raise InvalidConfig(f"local steps need a learning rate > 0, momentum in [0, 1) and a batch size >= 1, got {self}")
        if not (self.proximal >= 0 and self.max_gradient_norm >= 0 and self.seed >= 0):
            raise InvalidConfig(f"the proximal weight, the largest gradient norm and the seed are >= 0, got {self}")


class PrivacyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised to each client, and with how much noise."""

    max_norm: float
    """C, L2 bound of one update."""
    noise_multiplier: float
    """z: standard deviation of the noise on the sum, in units of C.  0 clips without any promise."""
    sampling_fraction: float
    """q, each client's probability of taking part in a round.  Clients are whole: what is accounted is the share that is drawn."""
    delta: float = 1e-5
    """Probability of a broken promise; should be well below 1 / number of clients."""

    def __post_init__(self) -> None:
        if not 0.0 < self.max_norm < math.inf or not 0.0 <= self.noise_multiplier < math.inf:
            raise InvalidConfig(
                f"expected max_norm > 0 and noise_multiplier >= 0, both finite, got {self.max_norm}, {self.noise_multiplier}"
            )
        if not 0.0 < self.sampling_fraction <= 1.0 or not 0.0 < self.delta < 1.0:
            raise InvalidConfig(f"expected sampling_fraction in (0, 1] and delta in (0, 1), got {self.sampling_fraction}, {self.delta}")


class TauSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Local steps between two aggregations."""

    rule: Literal["fixed", "adaptive", "decided"] = "fixed"
    """`adaptive`: Wang et al., JSAC 2019.  `decided`: by whoever sends SetTau, or a device's decision with a tau."""
    tau: int = 10
    """Where `decided` begins too; `adaptive`, which knows nothing yet, begins at 1."""
    max_tau: int = 100
    budget_s: float = 600.0
    """Of `adaptive`: the time that it plans for."""
    phi: float = 0.025
    """Of `adaptive`: weighs steps against divergence."""

    def __post_init__(self) -> None:
        if not 1 <= self.tau <= self.max_tau or not 0.0 < self.budget_s < INF or not 0.0 < self.phi < INF:
            raise ValueError(f"expected 1 <= tau <= max_tau, budget_s > 0 and phi > 0, got {self}")


class FitJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training job, the same for all nodes that take part."""

    name: str = "fit"
    network: NetworkSpec = NetworkSpec()
    data: DataSpec = DataSpec()
    architecture: Architecture = "federated"
    root: Literal["cloud", "edge"] = "cloud"
    """Tier of the node above all clients.  `edge`: the cloud has no part in the job, and the one edge is the root."""
    rounds: int = 20
    """Global ones; the job ends earlier when `target_accuracy` is reached."""
    target_accuracy: float | None = None
    """On the test split, where the root has it.  Each round then waits until the one before it is evaluated: none is begun in vain."""
    local: LocalSpec = LocalSpec()
    aggregator: str = "fedavg"
    compressor: str = "identity"
    """Of what clients send up (runtime/training/compress)."""
    tau: TauSpec = TauSpec()
    edge_rounds: int = 1
    """Edge averages per cloud average, `hierarchical` only."""
    sample_fraction: float = 1.0
    """Of the clients, drawn for each round."""
    quorum_fraction: float = 0.5
    """Of the drawn clients: fewer answers by the deadline fail the round."""
    round_deadline_s: float = 60.0
    join_deadline_s: float = 180.0
    """After the root is ready: when training begins with those that have joined by then, if they are a quorum.  Many clients on one
    host take a minute to import torch."""
    max_failed_rounds: int = 3
    """In a row; then the job fails."""
    privacy: PrivacyConfig | None = None
    secure_aggregation: bool = False
    """`federated` only: the root sees no client's update, only their sum (runtime/training/secure_aggregation)."""
    transfer: TransferSpec | None = None
    """What is taken over from a base network; None: training begins from the network's own first weights."""
    evaluate_every: int = 1
    """Rounds between two evaluations at the root; the last one is always evaluated."""
    peers: Literal["random", "ring"] = "random"
    """`gossip` only: to whom a peer sends."""
    cut: int = 0
    """`split` only: stages on the device."""
    labels_stay: bool = False
    """`split` only: the logits come back to the device, who alone has the labels (the U shape); else labels go up too."""
    step_deadline_s: float = 10.0
    """`split`: a leg of a step without an answer for so long is sent again; longer than the largest leg takes on the link.
    `centralised`: so are examples, when they have had the time that the link takes for them.  `secure_aggregation`: whoever
    has not taken a step of the masks by then is out of the round."""
    step_retries: int = 3
    """`split` only: so often; then the device gives the round up."""
    seed: int = 0
    folder: str = ""
    """Where each node keeps its state, in a folder of its name; empty: nowhere, and a restart begins anew."""

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME_CHARS or "/" in self.name or self.name.startswith("."):
            raise ValueError(f"a job's name has 1..{MAX_NAME_CHARS} characters, no slash and no leading dot, got {self.name!r}")
        if min(self.rounds, self.edge_rounds, self.max_failed_rounds, self.evaluate_every) < 1 or self.cut < 0 or self.seed < 0:
            raise ValueError("rounds, edge_rounds, max_failed_rounds and evaluate_every are >= 1, cut and seed >= 0")
        if not (0.0 < self.sample_fraction <= 1.0 and 0.0 < self.quorum_fraction <= 1.0):
            raise ValueError(f"fractions are in (0, 1], got {self.sample_fraction} and {self.quorum_fraction}")
        if not (0.0 < self.round_deadline_s < INF and 0.0 < self.join_deadline_s < INF):
            raise ValueError(f"deadlines are finite and > 0, got {self.round_deadline_s} and {self.join_deadline_s}")
        if self.edge_rounds > 1 and self.architecture != "hierarchical":
            raise ValueError(f"edge_rounds > 1 belong to the hierarchical architecture, not to {self.architecture!r}")
        if not 0.0 < self.step_deadline_s < INF or self.step_retries < 0:
            raise ValueError(f"a step has a finite deadline > 0 and retries >= 0, got {self.step_deadline_s} and {self.step_retries}")
        check_combination(self)


# ---------------------------------------------------------------- session and nodes


class FitStart(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Session to node: take part in this job, from now on or again.  A node that does already only says so."""

    request_id: int
    job: FitJob
    role: Role
    clients: tuple[str, ...] = ()
    """Names of those right below, whom a root or an aggregator waits for."""
    client: int = -1
    """Which part of the data a client has."""


class FitReady(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to FitStart: the network is made and the data are there."""

    request_id: int
    num_examples: int
    num_parameters: int
    resumed_round: int = 0
    """Rounds that were done before, from the node's folder."""


class FitQuery(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Session to node: how far is the job?"""

    request_id: int
    job: str
    since_round: int = 0
    """Records of earlier rounds are known."""


class MaskingCost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one round's secure aggregation, beside the masked updates themselves."""

    up_bytes: int
    """Keys, shares and what survivors revealed."""
    down_bytes: int
    exchange_s: float
    """Before the local steps: until all clients had each other's keys and shares."""
    reveal_s: float
    """After the last update: until enough survivors had answered."""


class RoundRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one global round did, as the root saw it.  Seconds are durations; energy is modelled."""

    round: int
    tau: int
    at_s: float
    """When its weights were there, since the job began (time that it was interrupted is left out); the evaluation comes after it,
    while the next round is on."""
    clients: tuple[str, ...]
    """Whose updates count."""
    missing: tuple[str, ...] = ()
    """Drawn, and not heard in time."""
    loss: float
    """Mean over clients by examples: their minibatches' during the round."""
    accuracy: float | None = None
    """Of the weights after the round on the test split; `local`: mean over the clients' own weights.  None where it was not evaluated."""
    test_loss: float | None = None
    compute_s: float
    """Of the slowest client, emulated slowness included."""
    transfer_s: float
    """Of the slowest client: weights down and update up, waiting for links included."""
    waiting_s: float
    """The rest of the round until its last update was there, or its deadline: waiting for those that never answered, and where updates
    are masked the exchange of keys.  What comes then, unmasking, aggregation, and the evaluation where the next round waits for it, is in
    none of the three: `at_s` tells."""
    up_bytes: tuple[int, int] = (0, 0)
    """Received over the uplinks and over the wan; messages' headers included."""
    down_bytes: tuple[int, int] = (0, 0)
    device_joules: float = 0.0
    """All devices: compute above idle and radio, modelled.  A client learns what sending took once it has sent: its radio's part is of the
    update before, so that the last one is in no record."""
    refused: dict[str, int] = {}
    """Reason -> updates that were refused in this round."""
    raw_bytes: int = 0
    """Examples that left their owner in this round."""
    masking: MaskingCost | None = None
    """What secure aggregation cost, where it was on; its bytes are among `up_bytes` and `down_bytes` too."""
    base_s: float = 0.0
    """Before the first round: the root trained the base for so long."""
    consensus_distance: float | None = None
    """Weighted root mean square distance of the peers' weights from their mean, where there is no server."""
    epsilon: float | None = None
    """Spent so far, where privacy is accounted: by all that was handed out, rounds that a crash undid included."""
    drift: float | None = None
    """How far clients came apart in the round, 0..1 (runtime/training/drift.py); None where the root does not see single updates."""
    surface: tuple[float, float, float] | None = None
    """Estimates of (rho, beta, delta), where clients compared and these are finite (runtime/training/tau.py)."""


class FitReport(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to FitQuery, whole at the root; others say their phase."""

    request_id: int
    job: str
    phase: FitPhase
    round: int
    """Global rounds that are done."""
    tau: int = 0
    """Of the round under way."""
    joined: tuple[str, ...] = ()
    records: tuple[RoundRecord, ...] = ()
    message: str = ""
    """Why it failed."""
    initial_loss: float | None = None
    """Of the network before anybody trained it, on the test split; from a root that has one."""


class FitStop(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Session to node: leave the job; what is on disk stays."""

    request_id: int
    job: str


class SetTau(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """To the root, from a session or passed on from below: local steps of the rounds to come, where the job's rule is `decided`.

    The root takes no more than the job's max_tau, and says in each record what was used."""

    job: str
    tau: int

    def __post_init__(self) -> None:
        if self.tau < 1:
            raise ValueError(f"tau must be >= 1, got {self.tau}")


# ---------------------------------------------------------------- aggregators and clients


class Join(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client or edge to the aggregator above: here I am.  Repeated until a Round comes, and when none has come for long."""

    job: str
    client: str
    num_examples: int
    base: str = ""
    """Digest of the base that it holds; one that holds none, and needs it, is given it with its next Round."""

    def __post_init__(self) -> None:
        if not 0 < len(self.client) <= MAX_NAME_CHARS or self.num_examples < 0 or len(self.base) > MAX_DIGEST_CHARS:
            raise ValueError(f"a client has a name of 1..{MAX_NAME_CHARS} characters, num_examples >= 0 and a SHA-256 digest if any")


class Round(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Aggregator to client: train from these weights.  One tensor follows, float32 [P], and the base for whoever lacks it, float32 [F].

    In a `local` job none follows: the client trains from its own.
    """

    request_id: int
    """Of the transfer, for its Ack."""
    job: str
    client: str
    """For whom it is."""
    round: int
    """Counts every attempt, so that a late update is never taken for another's round."""
    tau: int
    reply_within_s: float
    """Then the round ends without those who have not answered: a client stops, an edge sees to it that its devices are done by then."""
    compare: bool = False
    """Whether the client is to compare its own weights with these (adaptive tau)."""
    masking: Masking | None = None
    """Its place in a round of secure aggregation."""
    num_rounds: int = 0
    """Global aggregations that made these weights."""
    loss: float | None = None
    """On the test split, of these weights or of the last ones that are evaluated yet; None where none were, or it is not finite."""
    drift: float | None = None
    """How far clients came apart in the round before; None where nobody knows."""

    def __post_init__(self) -> None:
        if self.tau < 1 or self.round < 0:
            raise ValueError(f"a round has a number >= 0 and tau >= 1, got {self.round} and {self.tau}")
        if self.drift is not None and not 0.0 <= self.drift <= 1.0:
            raise ValueError(f"Round.drift is in 0..1, got {self.drift}")
        complain(self, "reply_within_s")


class UpdateHeader(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Everything of an update but its array: what travels as a typed header in front of the raw frame.

    Its fields go without their names, which would be a twentieth of a compressed update.
    """

    client: str
    round: int
    """The round whose global weights it started from."""
    num_examples: int
    """Examples that the client holds: its weight in the mean."""
    num_local_steps: int = 1
    metrics: dict[str, float] = {}
    """What the client measured, by name: `loss`, `compute_s`, ...  Never used to weigh."""

    def __post_init__(self) -> None:
        if not 0 < len(self.client) <= MAX_NAME_CHARS:
            raise ValueError(f"a client's name has 1..{MAX_NAME_CHARS} characters, got {len(self.client)}")
        if self.round < 0 or self.num_examples < 1 or self.num_local_steps < 0:
            raise ValueError(
                "an update needs round >= 0, num_examples >= 1 and num_local_steps >= 0, "
                f"got {self.round}, {self.num_examples}, {self.num_local_steps}"
            )


class Contribution(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Client to aggregator: its update.  The compressor's frames follow as tensors of bytes, then the estimates' gradient if any."""

    request_id: int
    """Of the transfer, for its Ack."""
    job: str
    header: UpdateHeader
    compressor: str
    parameters: bytes
    """The compressor's header, as msgpack of runtime.codecs.header.TensorHeader."""
    estimate: tuple[float, float] | None = None
    """(rho, beta) of the comparison; a tensor float32 [T], the gradient at the global weights, comes last."""


class Declined(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Client to aggregator: no update of mine will come for this round.  From a split network's server down: nor with my help."""

    job: str
    client: str
    round: int
    message: str


class Gossip(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Peer to peer: half of my weight.  One tensor follows, float32 [P].  Nodes between pass it on."""

    request_id: int
    """Of the transfer, for its Ack; each node on the way gives it one of its own."""
    job: str
    source: str
    target: str
    weight: float

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < INF:
            raise ValueError(f"Gossip.weight must be finite and > 0, got {self.weight!r}")


class PeerState(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Peer to the observer: where I am.  A measurement: one tensor follows, float32 [P], whose bytes are not the job's."""

    request_id: int
    job: str
    client: str
    round: int
    weight: float
    num_examples: int
    metrics: dict[str, float]

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < INF or self.round < 0 or self.num_examples < 1:
            raise ValueError("a peer's state has a finite weight > 0, round >= 0 and num_examples >= 1")


TrainingMessage = (
    FitStart
    | FitReady
    | FitQuery
    | FitReport
    | FitStop
    | SetTau
    | Join
    | Round
    | Contribution
    | Declined
    | Wanted
    | Upload
    | Uploaded
    | SplitStep
    | Gossip
    | PeerState
    | MaskingMessage
)
