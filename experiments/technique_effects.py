"""What a technique changed: KPIs of its records off and on, and paired changes with intervals.

Both settings of a technique played the same requests in turns, block by block.  Where an episode of one was lost, the other's of
that block does not count either: KPIs and changes are of equal requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from envs.reward import used_memory_bytes
from experiments.evaluate import EpisodeFailure
from experiments.records import Record
from experiments.simgap import by_policy
from experiments.stats import Estimate, mean_interval, paired_difference, paired_saving, paired_series
from experiments.techniques import Technique
from runtime.errors import InvalidInput


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A technique off or on: KPIs over its requests."""

    decision: str
    requests: int
    failed: int
    latency_p50_s: float
    """A request that failed counts with its deadline, if it was told so earlier."""
    latency_p95_s: float
    accuracy: float | None
    """Of those that were answered with a class."""
    energy_joules_mean: float
    """Modelled."""
    uplink_bytes_mean: float
    wan_bytes_mean: float
    memory_bytes: int
    """Peak resident sets of the tiers that computed, summed; the largest of all requests."""
    leakage_mean: float
    """Privacy: distance correlation of what left the device with the input; 0 nothing left, 1 the input itself."""
    reused_fraction: float
    """Requests answered from a cache or by a filter."""
    sim_latency_abs_pct_error: float | None
    """Median absolute error of the simulator on the same requests; None where nothing was answered in both."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """On against off over the same requests: 95 % intervals, shares of off's value unless said otherwise."""

    latency: Estimate
    """Geometric mean of on/off over the requests, less 1."""
    accuracy: Estimate | None
    """Difference, 0..1; a request without a class counts as wrong.  None where nothing has a label."""
    energy: Estimate | None
    """Of the means.  None where one of them is not above 0."""
    link_bytes: float | None
    """Of the means over both links, without an interval.  None where off sends nothing."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a technique does."""

    technique: str
    what: str
    off: Setting
    on: Setting
    change: Change
    lost: tuple[EpisodeFailure, ...] = ()
    """Episodes that broke, of either setting: their blocks are in neither."""


def effects(techniques: Sequence[Technique], records: Sequence[Record], failures: Sequence[EpisodeFailure] = ()) -> tuple[Effect, ...]:
    """KPIs of every technique off and on over the requests that both played, and the change.

    Raises InvalidInput when they share none.
    """
    played = by_policy(records)
    return tuple(_effect(technique, *(played.get(name, []) for name in technique.players), failures) for technique in techniques)


def setting_of(label: str, records: Sequence[Record]) -> Setting:
    """KPIs over one setting's records, at least one."""
    answered = [record for record in records if not record.failed]
    waited_s = [waited_of(record) for record in records]
    judged = [record.correct is True for record in records if record.correct is not None]
    errors = [abs(record.simulated_latency_s / record.latency_s - 1) for record in answered if record.simulated_latency_s is not None]
    return Setting(
        decision=label,
        requests=len(records),
        failed=len(records) - len(answered),
        latency_p50_s=float(np.median(waited_s)),
        latency_p95_s=float(np.quantile(waited_s, 0.95)),
        accuracy=float(np.mean(judged)) if judged else None,
        energy_joules_mean=float(np.mean([record.energy_joules for record in records])),
        uplink_bytes_mean=float(np.mean([record.link_bytes[0] for record in records])),
        wan_bytes_mean=float(np.mean([record.link_bytes[1] for record in records])),
        memory_bytes=max(used_memory_bytes(record.memory_bytes, record.breakdown) for record in records),
        leakage_mean=float(np.mean([record.leakage for record in records])),
        reused_fraction=float(np.mean([record.reused != "no" for record in records])),
        sim_latency_abs_pct_error=100 * float(np.median(errors)) if errors else None,
    )


def change_of(off: Sequence[Record], on: Sequence[Record]) -> Change:
    """How requests changed that both settings played.  Raises InvalidInput when there are none."""
    labelled = any(record.correct is not None for record in (*off, *on))
    accuracy = paired_difference(_values(on, _right), _values(off, _right)) if labelled else None
    saved = paired_saving(_values(on, _joules), _values(off, _joules))
    sent = [np.mean([sum(record.link_bytes) for record in records]) for records in (off, on)]
    return Change(
        latency=_latency_change(_values(off, waited_of), _values(on, waited_of)),
        accuracy=accuracy,
        energy=Estimate(mean=-saved.mean, low=-saved.high, high=-saved.low) if saved is not None else None,
        link_bytes=float(sent[1] / sent[0] - 1) if sent[0] > 0 else None,
    )


def waited_of(record: Record) -> float:
    """How long somebody waited for this request, seconds: being refused early is no merit, it counts with the deadline."""
    return max(record.latency_s, record.deadline_s) if record.failed else record.latency_s


def lost_notice(effects: Sequence[Effect]) -> list[str]:
    """For people, a line for each episode that was lost, and what that means."""
    lost = [f"lost: {failure.policy}, seed {failure.seed}: {failure.error}" for effect in effects for failure in effect.lost]
    return [*lost, "figures of these techniques are of the blocks that both settings played"] if lost else []


def _effect(technique: Technique, off: Sequence[Record], on: Sequence[Record], failures: Sequence[EpisodeFailure]) -> Effect:
    lost = tuple(failure for failure in failures if failure.policy in technique.players)
    shared = {record.key for record in off} & {record.key for record in on}
    if not shared:
        reasons = "; ".join(sorted({failure.error for failure in lost})) or "nothing was played"
        raise InvalidInput(f"no block of {technique.name} was played both off and on: {reasons}")
    off, on = ([record for record in records if record.key in shared] for records in (off, on))
    return Effect(
        technique=technique.name,
        what=technique.what,
        off=setting_of(technique.off.decision.label(), off),
        on=setting_of(technique.on.decision.label(), on),
        change=change_of(off, on),
        lost=lost,
    )


def _latency_change(off: dict[tuple[int, int], float], on: dict[tuple[int, int], float]) -> Estimate:
    logs = [np.log(pairs[:, 1] / pairs[:, 0]) for pairs in paired_series(off, on)]
    found = mean_interval(logs)
    return Estimate(mean=math.expm1(found.mean), low=math.expm1(found.low), high=math.expm1(found.high))


def _values(records: Sequence[Record], value: Callable[[Record], float]) -> dict[tuple[int, int], float]:
    return {record.key: value(record) for record in records}


def _right(record: Record) -> float:
    return float(record.correct is True)


def _joules(record: Record) -> float:
    return record.energy_joules
