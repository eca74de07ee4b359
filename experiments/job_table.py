"""The training jobs beside requests as a table: for a terminal, and for the report."""

from __future__ import annotations

from envs.reward import TRAINING_TERM
from experiments import page
from experiments.stats import Estimate
from experiments.summary import PolicySummary, Summary

HEADER = (
    "policy",
    "objective",
    "95 % interval",
    "learned gains",
    "95 % interval",
    "loss fall",
    "last loss",
    "rounds",
    "mean tau",
    "cost of a request",
)
LEGEND = (
    "Objective of an episode: what the job's loss fell by, times its worth, less what the requests cost."
    " Intervals: Student's t over the seeds; learned gains: the learned policy's objective minus this one's, paired by seed."
)


def job_rows(summary: Summary) -> list[tuple[str, ...]]:
    """A row per policy beside which something trained, the best objective first; empty where nothing did."""
    found = [(policy.job.objective_mean, name, policy) for name, policy in summary.policies.items() if policy.job is not None]
    return [_row(name, policy) for _, name, policy in sorted(found, key=lambda entry: -entry[0])]


def job_table(summary: Summary) -> str:
    """The same for the report."""
    rows = [("learned" if row[0] == summary.learned else "", [page.cell(text) for text in row]) for row in job_rows(summary)]
    return page.table(HEADER, rows) + page.paragraph(LEGEND, "soft")


def _row(name: str, policy: PolicySummary) -> tuple[str, ...]:
    job = policy.job
    assert job is not None
    requests = sum(cost for term, cost in policy.cost_terms.items() if term != TRAINING_TERM)
    gains = f"{job.learned_gains_mean:+.2f}" if job.learned_gains_mean is not None else ""
    return (
        name,
        f"{job.objective_mean:.2f}",
        _interval(job.objective),
        gains,
        _interval(job.learned_gains),
        f"{job.loss_drop_mean:.3f}",
        f"{job.final_loss_mean:.3f}",
        f"{job.rounds_mean:.1f}",
        f"{job.steps_per_round:.1f}",
        f"{requests:.3f}",
    )


def _interval(estimate: Estimate | None) -> str:
    return f"{estimate.low:+.2f} .. {estimate.high:+.2f}" if estimate is not None else ""
