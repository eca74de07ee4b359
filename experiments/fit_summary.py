"""What a training job came to: its KPIs from its rounds' records."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from experiments.table import Grid
from runtime.messages import FitJob, RoundRecord, TransferSpec

NEAR_BEST = 0.99
"""Convergence is told to this share of the best accuracy where the job has no target."""


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """What it took to reach an accuracy."""

    accuracy: float
    rounds: int
    seconds: float
    joules: float
    """Of all devices, modelled."""
    uplink_bytes: int
    """Up and down."""


class FitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """KPIs of one job."""

    name: str
    architecture: str
    aggregator: str
    compressor: str
    tau: str
    """The rule and what it came to: `fixed 10`, `adaptive 1-37`."""
    num_clients: int
    rounds: int
    seconds: float
    accuracy: float | None
    """On the test split after the last round."""
    best_accuracy: float | None
    loss: float
    """Mean over clients in the last round."""
    reached: Reached | None
    """The target, or nearly the best; None when nothing was evaluated, or the target was not reached."""
    compute_s: float
    transfer_s: float
    waiting_s: float
    """These three sum to the rounds' time from handing out weights to the last update: aggregation, unmasking, and evaluations that are
    waited for are in `seconds` alone."""
    uplink_up_bytes: int
    uplink_down_bytes: int
    wan_up_bytes: int
    wan_down_bytes: int
    device_joules: float
    """All devices, modelled."""
    raw_bytes: int
    """Examples that left their owner."""
    transfer: str = ""
    """What was taken over from a base: `2 frozen, distilled 0.5 at T 2`; empty without one."""
    base_s: float = 0.0
    """The root trained the base for so long, before the first round."""
    secure_aggregation: bool = False
    masking_bytes: int = 0
    """Of keys, shares and their like over one link, up and down, beside the masked updates."""
    masking_s: float = 0.0
    """All rounds: until clients had each other's shares, and until the sum could be unmasked."""
    epsilon: float | None
    missing: int
    """Answers that never came, over all rounds."""
    refused: int
    """Updates that were refused."""


def summarise_fit(job: FitJob, records: Sequence[RoundRecord], name: str = "") -> FitSummary:
    """KPIs of at least one record."""
    judged = [record.accuracy for record in records if record.accuracy is not None]
    taus = sorted({record.tau for record in records})
    costs = [record.masking for record in records if record.masking is not None]
    return FitSummary(
        name=name or job.name,
        architecture=job.architecture,
        aggregator=job.aggregator,
        compressor=job.compressor,
        tau=f"{job.tau.rule} {taus[0]}" + (f"-{taus[-1]}" if len(taus) > 1 else ""),
        num_clients=job.data.num_clients,
        rounds=records[-1].round,
        seconds=records[-1].at_s,
        accuracy=records[-1].accuracy,
        best_accuracy=max(judged, default=None),
        loss=records[-1].loss,
        reached=_reached(job, records),
        compute_s=math.fsum(record.compute_s for record in records),
        transfer_s=math.fsum(record.transfer_s for record in records),
        waiting_s=math.fsum(record.waiting_s for record in records),
        uplink_up_bytes=sum(record.up_bytes[0] for record in records),
        uplink_down_bytes=sum(record.down_bytes[0] for record in records),
        wan_up_bytes=sum(record.up_bytes[1] for record in records),
        wan_down_bytes=sum(record.down_bytes[1] for record in records),
        device_joules=math.fsum(record.device_joules for record in records),
        raw_bytes=sum(record.raw_bytes for record in records),
        transfer=_transfer(job.transfer) if job.transfer is not None else "",
        base_s=math.fsum(record.base_s for record in records),
        secure_aggregation=job.secure_aggregation,
        masking_bytes=sum(cost.up_bytes + cost.down_bytes for cost in costs),
        masking_s=math.fsum(cost.exchange_s + cost.reveal_s for cost in costs),
        epsilon=records[-1].epsilon,
        missing=sum(len(record.missing) for record in records),
        refused=sum(sum(record.refused.values()) for record in records),
    )


def _transfer(spec: TransferSpec) -> str:
    layers = [f"{count} {kind}" for count, kind in ((spec.frozen, "frozen"), (spec.tuned, "tuned")) if count]
    distil = [f"distilled {spec.distil.share:g} at T {spec.distil.temperature:g}"] if spec.distil is not None else []
    return ", ".join([*layers, *distil])


def _reached(job: FitJob, records: Sequence[RoundRecord]) -> Reached | None:
    judged = [record.accuracy for record in records if record.accuracy is not None]
    if not judged:
        return None
    wanted = job.target_accuracy if job.target_accuracy is not None else NEAR_BEST * max(judged)
    for count, record in enumerate(records, 1):
        if record.accuracy is not None and record.accuracy >= wanted:
            past = records[:count]
            return Reached(
                accuracy=wanted,
                rounds=record.round,
                seconds=record.at_s,
                joules=math.fsum(one.device_joules for one in past),
                uplink_bytes=sum(one.up_bytes[0] + one.down_bytes[0] for one in past),
            )
    return None


HEADER = (
    "job", "tau", "rounds", "accuracy", "seconds", "compute s", "transfer s", "waiting s", "uplink up kB", "uplink down kB", "wan up kB",
    "energy J", "raw kB", "epsilon", "missing", "s to target", "kB to target",
)  # fmt: skip


def fit_grid(summaries: Sequence[FitSummary]) -> Grid:
    """A row for each job."""
    return Grid(header=HEADER, rows=tuple(_row(one) for one in summaries), emphasised=None)


def fit_legend() -> tuple[str, ...]:
    """What the columns of `fit_grid` are."""
    return (
        "seconds: from the job's start to its last weights, joining included, and evaluating where rounds waited for it;",
        "compute and transfer: of each round's slowest client, waiting: what was left until its last update was there.",
        "kB: bytes of frames, all clients and rounds together; raw: examples that left their owner; energy: all devices, MODELLED.",
        "missing: answers that never came; to target: until the target accuracy,"
        f" or {NEAR_BEST:.0%} of the job's best where it has none; its kB are up and down.",
    )


def _row(one: FitSummary) -> tuple[str, ...]:
    return (
        f"{one.name} (secure)" if one.secure_aggregation and "secure" not in one.name else one.name,
        one.tau,
        str(one.rounds),
        f"{one.accuracy:.1%}" if one.accuracy is not None else "",
        f"{one.seconds:.1f}",
        f"{one.compute_s:.1f}",
        f"{one.transfer_s:.1f}",
        f"{one.waiting_s:.1f}",
        f"{one.uplink_up_bytes / 1e3:.1f}",
        f"{one.uplink_down_bytes / 1e3:.1f}",
        f"{one.wan_up_bytes / 1e3:.1f}",
        f"{one.device_joules:.1f}",
        f"{one.raw_bytes / 1e3:.1f}",
        f"{one.epsilon:.2f}" if one.epsilon is not None else "",
        str(one.missing),
        f"{one.reached.seconds:.1f}" if one.reached is not None else "never",
        f"{one.reached.uplink_bytes / 1e3:.0f}" if one.reached is not None else "",
    )
