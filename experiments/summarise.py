"""From records to figures.  Pure: the same records give the same summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from envs.not_modelled import not_modelled
from envs.reward import TERMS, TRAINING_TERM
from envs.scenario import Scenario
from experiments.evaluate import EpisodeFailure
from experiments.job_summary import job_summary
from experiments.load import compare_by_load
from experiments.records import Record
from experiments.runs import RunInfo
from experiments.simgap import by_policy, sim_to_live
from experiments.stats import BLOCK_LENGTH, NUM_RESAMPLES, mean_interval, paired_difference, paired_saving
from experiments.summary import Comparison, DecisionShare, PolicySummary, Summary
from runtime.errors import InvalidInput
from runtime.messages import TIERS, Breakdown, Decision

MODELLED = (
    "energy: MODELLED from compute time and radio power (runtime/energy.py), not metered",
    "simulated and predicted latencies: MODELLED from the profile",
)
METHOD = (
    f"95 % intervals by a two-stage bootstrap: seeds, then blocks of {BLOCK_LENGTH} consecutive requests within them,"
    f" {NUM_RESAMPLES} resamples; differences are paired by (seed, request)"
)
LATENCY_PARTS = (
    "client",
    "preprocess",
    "decision",
    *(f"{part} {tier}" for part in ("reuse", "load", "queue", "compute", "codec", "serialise") for tier in TIERS),
    "transfer uplink",
    "transfer wan",
    "handover",
    "postprocess",
)


def summarise(
    info: RunInfo,
    scenario: Scenario,
    records: Sequence[Record],
    *,
    simulated: Sequence[Record] = (),
    failures: Sequence[EpisodeFailure] = (),
    learned: str | None = None,
) -> Summary:
    """Every figure of a run.  `scenario` is the played one; `learned` names the policy to hold against the others.

    Raises InvalidInput without records.
    """
    groups = by_policy(records)
    if not groups:
        reasons = "; ".join(sorted({failure.error for failure in failures})) or "nothing was played"
        raise InvalidInput(f"run {info.name} has no records to summarise: {reasons}")
    learned = learned if learned in groups else None
    beside = any(record.job is not None for record in records)  # what a job came to is one figure an episode, not one a request
    held = learned if learned is None or not beside or len({record.seed for record in groups[learned]}) > 1 else None
    policies = {name: _policy(rows, groups[held] if held not in (None, name) else ()) for name, rows in groups.items()}
    comparison = _comparison(policies, groups, held)
    return Summary(
        run=info.name,
        scenario=scenario.name,
        description=scenario.description,
        command=info.command,
        seed=info.seed,
        seeds=info.seeds,
        requests_per_episode=scenario.workload.num_requests,
        created_at=info.created_at,
        versions=info.versions,
        system=records[0].system,
        emulation=tuple(scenario.topology.emulation_notice()),
        modelled=MODELLED,
        kept_awake=any(record.kept_awake for record in records),
        not_modelled=not_modelled(scenario),
        method=METHOD,
        learned=learned,
        policies=dict(sorted(policies.items(), key=lambda item: item[1].cost_mean)),
        comparison=comparison,
        by_load=compare_by_load(groups[comparison.learned], groups[comparison.best_heuristic]) if comparison and not beside else (),
        sim_to_live=sim_to_live(records, simulated) if simulated or _has_replays(records) else None,
        failures=tuple(failures),
    )


def latency_parts(breakdown: Breakdown) -> tuple[float, ...]:
    """A breakdown's parts in the order of `LATENCY_PARTS`, seconds."""
    return (
        breakdown.client_s,
        breakdown.preprocess_s,
        breakdown.decision_s,
        *breakdown.reuse_s,
        *breakdown.load_s,
        *breakdown.queue_s,
        *breakdown.compute_s,
        *breakdown.codec_s,
        *breakdown.serialise_s,
        *breakdown.transfer_s,
        breakdown.handover_s,
        breakdown.postprocess_s,
    )


def counted_latency_s(record: Record) -> float:
    """Latency as percentiles count it: a failed request waited at least its deadline in vain."""
    return max(record.latency_s, record.deadline_s) if record.failed else record.latency_s


def _policy(records: Sequence[Record], reference: Sequence[Record]) -> PolicySummary:
    cost = mean_interval(_by_seed(records))
    p50_s, p95_s = np.percentile([counted_latency_s(record) for record in records], [50, 95])
    parts = [latency_parts(record.breakdown) for record in records if not record.failed]
    return PolicySummary(
        requests=len(records),
        failed=sum(record.failed for record in records),
        cost_mean=cost.mean,
        cost_ci95=(cost.low, cost.high),
        latency_p50_s=float(p50_s),
        latency_p95_s=float(p95_s),
        miss_fraction=float(np.mean([record.missed for record in records])),
        accuracy=_accuracy(records),
        energy_joules_mean=float(np.mean([record.energy_joules for record in records])),
        uplink_bytes_mean=float(np.mean([record.link_bytes[0] for record in records])),
        wan_bytes_mean=float(np.mean([record.link_bytes[1] for record in records])),
        downlink_bytes_mean=float(np.mean([record.down_bytes[0] for record in records])),
        leakage_mean=float(np.mean([record.leakage for record in records])),
        memory_bytes={tier: max(record.memory_bytes[index] for record in records) for index, tier in enumerate(TIERS)},
        host_steal_max=max((record.host_steal for record in records if record.host_steal is not None), default=None),
        episodes_repeated=len({record.seed for record in records if record.attempts > 1}),
        handed_over_fraction=float(np.mean([record.handed_over for record in records])),
        exits=_exit_shares(records),
        decision_p50_s=_median(record.decision_s for record in records),
        thinking_p50_s=_median(record.thinking_s for record in records),
        seeds=tuple(sorted({record.seed for record in records})),
        statuses=dict(Counter(record.status for record in records).most_common()),
        decided_by=dict(Counter(record.decided_by for record in records).most_common()),
        fallbacks=sum(record.decided_by == "fallback" for record in records),
        cost_terms={term: float(np.mean([record.cost_terms.get(term, 0.0) for record in records])) for term in _terms(records)},
        cost_by_seed={str(seed): float(np.mean(costs)) for seed, costs in _costs_by_seed(records).items()},
        latency_parts_s=dict(zip(LATENCY_PARTS, np.mean(parts, axis=0).tolist(), strict=True)) if parts else {},
        decisions=_decision_shares(records),
        cost_above_learned=paired_difference(_costs(records), _costs(reference)),
        job=job_summary(records, reference),
        saved_by_learned=paired_saving(_costs(reference), _costs(records)),
    )


def _terms(records: Sequence[Record]) -> tuple[str, ...]:
    return TERMS if all(record.job is None for record in records) else (*TERMS, TRAINING_TERM)


def _exit_shares(records: Sequence[Record]) -> dict[str, float]:
    counts = Counter(str(record.exit) for record in records if record.exit is not None)
    total = counts.total()
    return {exit: count / total for exit, count in sorted(counts.items())}


def _comparison(policies: dict[str, PolicySummary], groups: dict[str, list[Record]], learned: str | None) -> Comparison | None:
    others = [name for name in policies if learned is None or name.partition(", ")[0] != learned]  # one with its tau fixed is no rival
    if learned is None or not others:
        return None
    most_seeds = max(len(policies[name].seeds) for name in others)
    best = min((name for name in others if len(policies[name].seeds) == most_seeds), key=lambda name: policies[name].cost_mean)
    difference = policies[best].cost_above_learned
    if difference is None:
        return None
    saving = policies[best].saved_by_learned
    return Comparison(
        learned=learned,
        best_heuristic=best,
        difference=difference,
        relative_gain=saving.mean if saving is not None else None,
        relative_gain_ci95=(saving.low, saving.high) if saving is not None else None,
        alike_fraction=_alike(groups[learned], groups[best]),
    )


def _alike(left: Sequence[Record], right: Sequence[Record]) -> float:
    """Of the requests of both; there are some, or they would not be compared.  A tau that came with a decision is not the request's."""
    theirs = {record.key: _without_tau(record.decision) for record in right}
    return float(np.mean([_without_tau(record.decision) == theirs[record.key] for record in left if record.key in theirs]))


def _without_tau(decision: Decision | None) -> Decision | None:
    return msgspec.structs.replace(decision, tau=None) if decision is not None and decision.tau is not None else decision


def _costs(records: Sequence[Record]) -> dict[tuple[int, int], float]:
    return {record.key: record.cost for record in records}


def _by_seed(records: Sequence[Record]) -> list[np.ndarray]:
    return [np.array(costs) for costs in _costs_by_seed(records).values()]


def _costs_by_seed(records: Sequence[Record]) -> dict[int, list[float]]:
    """Seed -> costs in request order."""
    costs: dict[int, list[float]] = {}
    for record in sorted(records, key=lambda record: record.key):
        costs.setdefault(record.seed, []).append(record.cost)
    return costs


def _accuracy(records: Sequence[Record]) -> float | None:
    if all(record.correct is None for record in records):
        return None
    return float(np.mean([record.correct is True and not record.failed for record in records]))


def _decision_shares(records: Sequence[Record]) -> tuple[DecisionShare, ...]:
    counts = Counter((record.placement, record.decision.variant, record.decision.exit) for record in records if record.decision is not None)
    total = sum(counts.values())
    return tuple(
        DecisionShare(placement=place, variant=variant, exit=exit, fraction=count / total)
        for (place, variant, exit), count in counts.most_common()
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _has_replays(records: Sequence[Record]) -> bool:
    return any(record.simulated_status is not None for record in records)
