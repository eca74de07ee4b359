"""The summary in words: who wins, by how much, and where the learned policy does not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from envs.not_modelled import left_out_notice
from experiments.stats import Estimate
from experiments.summary import Comparison, PolicySummary, Summary
from runtime.awake import NOTICE
from runtime.host import DISTURBING_STEAL, is_disturbed


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Sentences for people, plain text."""

    headline: str
    wins: tuple[str, ...]
    """Where the learned policy is better."""
    losses: tuple[str, ...]
    """Where it is not better, or not shown to be."""
    caveats: tuple[str, ...]
    """What a reader should know before trusting any of it."""


class _Metric(msgspec.Struct, frozen=True):
    label: str
    value: Callable[[PolicySummary], float | None]
    show: Callable[[float], str]
    sign: int = 1
    """-1 where more is better."""


_METRICS = (
    _Metric("median latency", lambda policy: policy.latency_p50_s, lambda value: f"{value * 1e3:.0f} ms"),
    _Metric("p95 latency", lambda policy: policy.latency_p95_s, lambda value: f"{value * 1e3:.0f} ms"),
    _Metric("missed deadlines", lambda policy: policy.miss_fraction, lambda value: f"{value:.1%}"),
    _Metric("accuracy", lambda policy: policy.accuracy, lambda value: f"{value:.1%}", -1),
    _Metric("device energy", lambda policy: policy.energy_joules_mean, lambda value: f"{value * 1e3:.0f} mJ"),
    _Metric("uplink bytes", lambda policy: policy.uplink_bytes_mean, lambda value: f"{value / 1e3:.2f} kB"),
)


def verdict(summary: Summary) -> Verdict:
    """Everything that a summary lets one say, and no more: a difference whose interval holds 0 is not a win."""
    wins: list[str] = []
    losses: list[str] = []
    _rivals(summary, wins, losses)
    _loads(summary, wins, losses)
    _seeds(summary, wins, losses)
    _metrics(summary, wins, losses)
    return Verdict(headline=_headline(summary), wins=tuple(wins), losses=tuple(losses), caveats=tuple(_caveats(summary)))


def host_notice(summary: Summary) -> list[str]:
    """What was done against the host's disturbing, and whom it disturbed all the same: its share of an episode is nobody's policy."""
    notices = [NOTICE] if summary.kept_awake else []
    num_repeated = sum(policy.episodes_repeated for policy in summary.policies.values())
    if num_repeated:
        notices.append(
            f"{num_repeated} episode{'s' if num_repeated > 1 else ''} played again because this machine's host took"
            f" {DISTURBING_STEAL:.0%} or more of its processor time away meanwhile; the less disturbed attempt counts"
        )
    most = {name: policy.host_steal_max for name, policy in summary.policies.items() if policy.host_steal_max is not None}
    names = [name for name, share in most.items() if is_disturbed(share)]
    if not names:
        return notices
    worst = max(most[name] for name in names)
    return [
        *notices,
        f"this machine's host took up to {worst:.0%} of its processor time away during an episode of {', '.join(names)}:"
        " live figures measure that too; play again on a quieter host",
    ]


def _headline(summary: Summary) -> str:
    comparison = summary.comparison
    if comparison is None:
        best, policy = next(iter(summary.policies.items()))
        if summary.learned is not None and len(summary.policies) > 1:
            return f"{best} is cheapest, at {policy.cost_mean:.3f} a request; one episode of a job does not tell {summary.learned} from it."
        return f"{best} is cheapest, at {policy.cost_mean:.3f} a request; no learned policy was held against it."
    ours, theirs, saved = comparison.learned, f"the best heuristic, {comparison.best_heuristic}", comparison.difference
    amount = f"{abs(saved.mean):.3f} a request ({_interval(saved)})"
    match _outcome(saved):
        case "better":
            return f"{ours} beats {theirs}{_percent(comparison)}: it saves {amount}."
        case "worse":
            return f"{ours} does NOT beat {theirs}. It is dearer{_percent(comparison)}: it costs {abs(saved.mean):.3f} more a request."
        case _:
            return (
                f"{ours} cannot be told apart from {theirs}: saving {saved.mean:+.3f} a request ({_interval(saved)}, which holds 0)."
                f" They decide {comparison.alike_fraction:.0%} of the requests alike."
            )


def _outcome(difference: Estimate) -> str:
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "undecided"


def _interval(estimate: Estimate) -> str:
    return f"95 % interval {estimate.low:+.3f} to {estimate.high:+.3f}"


def _percent(comparison: Comparison) -> str:
    gain, interval = comparison.relative_gain, comparison.relative_gain_ci95
    if gain is None or interval is None:
        return ""
    low, high = sorted(value if gain > 0 else -value for value in interval)
    return f", by {abs(gain):.1%} ({low:.1%} to {high:.1%})"


def _rivals(summary: Summary, wins: list[str], losses: list[str]) -> None:
    """Which heuristics are beaten, one by one."""
    by_outcome: dict[str, list[str]] = {"better": [], "undecided": [], "worse": []}
    for name, policy in summary.policies.items():
        if policy.cost_above_learned is not None:
            by_outcome[_outcome(policy.cost_above_learned)].append(name)
    if by_outcome["better"]:
        wins.append(f"cheaper than {', '.join(by_outcome['better'])} (each interval of the difference above 0)")
    if by_outcome["undecided"]:
        losses.append(f"not shown to be cheaper or dearer than {', '.join(by_outcome['undecided'])}")
    if by_outcome["worse"]:
        losses.append(f"dearer than {', '.join(by_outcome['worse'])} (each interval of the difference below 0)")


def _loads(summary: Summary, wins: list[str], losses: list[str]) -> None:
    for row in summary.by_load:
        text = (
            f"{row.load} load ({row.arrivals_low_per_s} to {row.arrivals_high_per_s} arrivals in the second before):"
            f" cost {row.learned_cost:.3f} against {row.heuristic_cost:.3f}"
        )
        match _outcome(row.difference):
            case "better":
                wins.append(text)
            case "worse":
                losses.append(f"{text}; the heuristic is better there")
            case _:
                losses.append(f"{text}; no difference shown ({_interval(row.difference)})")


def _seeds(summary: Summary, wins: list[str], losses: list[str]) -> None:
    comparison = summary.comparison
    if comparison is None:
        return
    left = summary.policies[comparison.learned].cost_by_seed
    right = summary.policies[comparison.best_heuristic].cost_by_seed
    shared = [seed for seed in left if seed in right]
    lost = [seed for seed in shared if left[seed] >= right[seed]]
    if lost:
        losses.append(f"not cheaper than {comparison.best_heuristic} in {len(lost)} of {len(shared)} seeds ({', '.join(lost)})")
    elif shared:
        wins.append(f"cheaper than {comparison.best_heuristic} in each of the {len(shared)} seeds")


def _metrics(summary: Summary, wins: list[str], losses: list[str]) -> None:
    """Metrics where some heuristic is better than the learned policy, whatever else it pays for that; and where none is."""
    if summary.learned is None or len(summary.policies) < 2:
        return
    ours = summary.policies[summary.learned]
    for metric in _METRICS:
        values = {name: value for name, policy in summary.policies.items() if (value := metric.value(policy)) is not None}
        mine = metric.value(ours)
        if mine is None or len(values) < 2:
            continue
        best = min((name for name in values if name != summary.learned), key=lambda name: metric.sign * values[name])
        if metric.show(mine) == metric.show(values[best]):
            continue
        if metric.sign * values[best] < metric.sign * mine:
            price = f"{summary.policies[best].cost_mean:.3f}"
            losses.append(f"{metric.label}: {metric.show(mine)}, {best} {metric.show(values[best])} (at a cost of {price} a request)")
        else:
            wins.append(f"{metric.label}: {metric.show(mine)}, at best {metric.show(values[best])} among the heuristics ({best})")


def _caveats(summary: Summary) -> list[str]:
    caveats = [*host_notice(summary), *summary.emulation, *summary.modelled, *left_out_notice(summary.not_modelled)]
    if summary.system == "simulated":
        caveats.insert(0, "SIMULATED: no live system took part, every figure here comes from a model")
    caveats += [f"NOT PLAYED to its end: {lost.policy}, seed {lost.seed}: {lost.error}" for lost in summary.failures]
    incomplete = [name for name, policy in summary.policies.items() if set(policy.seeds) != set(summary.seeds)]
    if incomplete:
        caveats.append(f"not on all seeds, so their means are not comparable with the rest: {', '.join(incomplete)}")
    if len(summary.seeds) < 3:
        caveats.append(f"only {len(summary.seeds)} seed(s): intervals cannot show how much seeds differ")
    if summary.comparison is not None:
        caveats.append(
            "the best heuristic was picked after the fact, from the same requests: that favours the heuristics, not the learned policy"
        )
    gap = summary.sim_to_live
    if gap is not None and gap.same_winner is False:
        caveats.append("the simulator would have named another winner than the live system")
    return caveats
