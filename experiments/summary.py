"""What a run found, as data: the content of summary.json.  Computed by `experiments.summarise`, from records alone."""

from __future__ import annotations

from pathlib import Path

import msgspec

from experiments.evaluate import EpisodeFailure
from experiments.job_summary import JobSummary
from experiments.records import SystemKind
from experiments.simgap import SimToLive
from experiments.stats import Estimate
from runtime.errors import InvalidInput
from runtime.files import write_atomically

SCHEMA = 1


class DecisionShare(msgspec.Struct, frozen=True, kw_only=True):
    """How often a policy decided one way."""

    placement: str
    variant: str
    exit: int
    fraction: float
    """Of the policy's decided requests."""


class PolicySummary(msgspec.Struct, frozen=True, kw_only=True):
    """One policy over all its requests."""

    requests: int
    failed: int
    """Requests that ended without an answer, for whatever reason."""
    cost_mean: float
    cost_ci95: tuple[float, float]
    latency_p50_s: float
    """Over all requests; one that failed counts with at least its deadline, so that quick refusals gain nothing."""
    latency_p95_s: float
    miss_fraction: float
    """Share of requests without an answer by their deadline."""
    accuracy: float | None
    """Right answers per request; no answer is a wrong one.  None where no labels are known."""
    energy_joules_mean: float
    """Modelled device energy."""
    uplink_bytes_mean: float
    """Sent up, headers included; so are the next."""
    wan_bytes_mean: float
    downlink_bytes_mean: float
    """Towards the device, on the uplink's way back."""
    leakage_mean: float
    """Privacy: distance correlation of what left the device with its input; 1 the raw input, 0 nothing left."""
    memory_bytes: dict[str, int]
    """tier -> peak resident set of its node, as last reported."""
    exits: dict[str, float]
    """Exit that answered -> share of the answered requests."""
    decision_p50_s: float | None
    """Median time until the decision was there, as the device saw it; in the simulator, the policy's thinking."""
    thinking_p50_s: float | None
    """Median of the policy alone; None where the device asked a daemon itself."""
    seeds: tuple[int, ...]
    statuses: dict[str, int]
    decided_by: dict[str, int]
    fallbacks: int
    """Requests that the policy could not or did not decide in time, and its fallback did."""
    cost_terms: dict[str, float]
    """Mean cost by term; they sum to cost_mean."""
    cost_by_seed: dict[str, float]
    latency_parts_s: dict[str, float]
    """Mean of each part of the breakdown over answered requests."""
    decisions: tuple[DecisionShare, ...]
    """Most frequent first."""
    host_steal_max: float | None = None
    """Most of this machine's processor time that its host gave to others during one of the episodes, as a share."""
    episodes_repeated: int = 0
    """Played again because the host had disturbed them."""
    handed_over_fraction: float = 0.0
    """Share of all requests whose edge share was done by another edge."""
    cost_above_learned: Estimate | None = None
    """This policy's cost minus the learned one's on the same requests: above 0, the learned one is cheaper."""
    job: JobSummary | None = None
    """Of the training jobs beside its episodes; costs have its share of what these brought."""
    saved_by_learned: Estimate | None = None
    """The same as a share of this policy's cost, at most 1."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The learned policy against the best heuristic of the same run, request by request."""

    learned: str
    best_heuristic: str
    """Least mean cost among the heuristics that played all seeds."""
    difference: Estimate
    """Heuristic's cost minus the learned one's, same requests: above 0, the learned one is cheaper."""
    relative_gain: float | None
    """The difference as a share of the heuristic's cost."""
    relative_gain_ci95: tuple[float, float] | None
    """Its interval; numerator and denominator are resampled together."""
    alike_fraction: float
    """Share of their requests that both decided the same way: what differs there is not the decisions' doing."""


class LoadRow(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison at one level of load."""

    load: str
    arrivals_low_per_s: int
    """Requests that arrived in the second before, least and most in this row."""
    arrivals_high_per_s: int
    requests: int
    learned_cost: float
    heuristic_cost: float
    difference: Estimate


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run found."""

    schema: int = SCHEMA
    run: str
    scenario: str
    description: str
    command: str
    seed: int
    seeds: tuple[int, ...]
    requests_per_episode: int
    created_at: str
    versions: dict[str, str]
    system: SystemKind
    emulation: tuple[str, ...]
    """What of the topology is emulated, a sentence each; empty when all of it is real."""
    modelled: tuple[str, ...]
    """Which figures come from a model and not from a meter."""
    kept_awake: bool = False
    """Whether this machine's processors were kept from resting meanwhile (runtime/awake.py)."""
    not_modelled: tuple[str, ...] = ()
    """What the scenario switches on and the simulator leaves out (envs/not_modelled.py)."""
    method: str
    learned: str | None
    policies: dict[str, PolicySummary]
    """Cheapest first."""
    comparison: Comparison | None
    by_load: tuple[LoadRow, ...]
    sim_to_live: SimToLive | None
    failures: tuple[EpisodeFailure, ...]


def encode_summary(summary: Summary) -> bytes:
    """Indented JSON."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def save_summary(summary: Summary, path: Path) -> None:
    """Write atomically."""
    write_atomically(path, encode_summary(summary))


def load_summary(path: Path) -> Summary:
    """Read summary.json.  Raises InvalidInput when it is missing, corrupt or of another schema."""
    try:
        summary = msgspec.json.decode(path.read_bytes(), type=Summary)
    except OSError as exc:
        raise InvalidInput(f"cannot read {path}: {exc.strerror}") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"{path} is not a summary of `drlctl evaluate` or `drlctl demo`: {exc}") from exc
    if summary.schema != SCHEMA:
        raise InvalidInput(f"{path} has schema {summary.schema}, this drlctl reads {SCHEMA}; summarise its records again")
    return summary


class _Broken(msgspec.Struct, frozen=True, kw_only=True):
    """Of a summary of whatever schema, what no record tells."""

    failures: tuple[EpisodeFailure, ...]


def load_failures(path: Path) -> tuple[EpisodeFailure, ...]:
    """The episodes that broke, from a summary.json of this or an earlier version.  Raises InvalidInput for a file that has none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Broken).failures
    except OSError as exc:
        raise InvalidInput(f"cannot read {path}: {exc.strerror}") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidInput(
            f"{path} does not say which episodes broke: {exc}; remove it, and the records are summed up as if none had"
        ) from exc
