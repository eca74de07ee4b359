"""What the training jobs beside a policy's episodes came to, episode by episode; intervals are over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from experiments.records import Record
from experiments.stats import Estimate, seeds_interval


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One policy's jobs.  Intervals are Student's t over the seeds; None with fewer than two."""

    loss_drop_mean: float
    """By which an episode's rounds lowered the loss."""
    loss_drop: Estimate | None
    final_loss_mean: float
    rounds_mean: float
    """Aggregations in an episode."""
    steps_per_round: float
    """Mean tau of all rounds."""
    objective_mean: float
    """Of an episode: what the loss's fall is worth, less what its requests cost."""
    objective: Estimate | None
    objective_by_seed: dict[str, float]
    learned_gains_mean: float | None = None
    """Objective of the learned policy minus this one's, mean over the seeds that both played; None for the learned one."""
    learned_gains: Estimate | None = None
    """Paired by seed."""


def job_summary(records: Sequence[Record], reference: Sequence[Record]) -> JobSummary | None:
    """Of a policy's records, held against those of the learned one; None where nothing trained beside them."""
    reports = [report for report in {record.seed: record.job for record in records}.values() if report is not None]
    if not reports:
        return None
    own, learned = objectives(records), objectives(reference)
    gains = [learned[seed] - own[seed] for seed in own if seed in learned]
    num_rounds = sum(report.num_rounds for report in reports)
    drops = [report.loss_drop for report in reports]
    return JobSummary(
        loss_drop_mean=_mean(drops),
        loss_drop=_interval(drops),
        final_loss_mean=_mean([report.final_loss for report in reports]),
        rounds_mean=num_rounds / len(reports),
        steps_per_round=sum(report.num_steps for report in reports) / max(num_rounds, 1),
        objective_mean=_mean(list(own.values())),
        objective=_interval(list(own.values())),
        objective_by_seed={str(seed): value for seed, value in own.items()},
        learned_gains_mean=_mean(gains) if gains else None,
        learned_gains=_interval(gains),
    )


def objectives(records: Sequence[Record]) -> dict[int, float]:
    """Seed -> minus the cost of all its requests, each of which has its share of what the job brought."""
    sums: dict[int, float] = {}
    for record in records:
        sums[record.seed] = sums.get(record.seed, 0.0) - record.cost
    return dict(sorted(sums.items()))


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))


def _interval(values: Sequence[float]) -> Estimate | None:
    return seeds_interval(values) if len(values) > 1 else None
