"""How far the simulator is from the live system, measured on the same requests.

Two questions.  *Same decisions*: every live decision is replayed in the simulator, and latencies are compared
request by request.  *Same policies*: every policy plays the same seeds in the simulator by itself, where its
decisions may part from the live ones, and mean costs and their order are compared.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from experiments.records import Record
from experiments.rollout import Episode
from experiments.stats import kendall, spearman
from runtime.errors import DrlctlError
from runtime.messages import Decision, Outcome, TauSpec

logger = logging.getLogger(__name__)


class Replayer(Protocol):
    """A simulator that takes given decisions."""

    def replay(self, seed: int, decisions: Mapping[int, Decision], tau: TauSpec | None = None) -> Sequence[Outcome]:
        """Outcomes of the episode of `seed` when request `i` is decided as `decisions[i]`; `tau`: the rule of the job's, if any."""


class SimToLive(msgspec.Struct, frozen=True, kw_only=True):
    """Disagreement between the simulator and the live system.  Errors are of the simulator, in percent of live."""

    latency_median_abs_pct_error: float | None
    """Over requests answered in both worlds, same decisions, all policies together; None when there are none."""
    latency_median_pct_error: float | None
    """The same with its sign: above 0 the simulator is too slow."""
    latency_median_abs_pct_error_by_policy: dict[str, float | None]
    num_compared: int
    """Requests answered in both worlds."""
    status_agreement: float | None
    """Share of replayed requests that ended with the same status."""
    cost_pct_error_by_policy: dict[str, float]
    """Mean cost of the policy playing in the simulator itself, against live."""
    cost_live: dict[str, float]
    cost_simulated: dict[str, float]
    rank_spearman: float | None
    """Agreement of the policies' order by mean cost, 1 the same, -1 reversed."""
    rank_kendall: float | None
    same_winner: bool | None
    """Whether the cheapest policy is the same in both worlds."""


def replay_episode(replayer: Replayer, episode: Episode) -> dict[int, Outcome]:
    """Outcomes of an episode's decisions in the simulator, by request id.

    Empty, with a warning, when the simulator cannot play them: the live figures stand without it.
    """
    decisions = {outcome.request_id: outcome.decision for outcome in episode.outcomes if outcome.decision is not None}
    try:
        return {outcome.request_id: outcome for outcome in replayer.replay(episode.seed, decisions, episode.tau)}
    except DrlctlError as exc:
        logger.warning("%s, seed %d: not replayed in the simulator: %s", episode.policy, episode.seed, exc)
        return {}


def computed_as_decided(outcome: Outcome) -> bool:
    """Whether nothing was reused, and no work handed to another edge, not even in vain."""
    return outcome.reused == "no" and not outcome.handed_over and outcome.breakdown.handover_s == 0


def sim_to_live(live: Sequence[Record], simulated: Sequence[Record]) -> SimToLive:
    """Compare live records (with their replays) and the records of the same policies playing in the simulator."""
    errors = {policy: _latency_errors(records) for policy, records in by_policy(live).items()}
    everything = np.concatenate([*errors.values(), np.empty(0)])
    replayed = [record.simulated_status == record.status for record in live if record.simulated_status is not None]
    live_cost, simulated_cost = _paired_costs(live, simulated)
    names = list(live_cost)
    live_order, simulated_order = [live_cost[name] for name in names], [simulated_cost[name] for name in names]
    return SimToLive(
        latency_median_abs_pct_error=_median(np.abs(everything)),
        latency_median_pct_error=_median(everything),
        latency_median_abs_pct_error_by_policy={policy: _median(np.abs(values)) for policy, values in errors.items()},
        num_compared=len(everything),
        status_agreement=float(np.mean(replayed)) if replayed else None,
        cost_pct_error_by_policy={name: 100 * (simulated_cost[name] / live_cost[name] - 1) for name in names if live_cost[name] > 0},
        cost_live=live_cost,
        cost_simulated=simulated_cost,
        rank_spearman=spearman(live_order, simulated_order) if names else None,
        rank_kendall=kendall(live_order, simulated_order) if names else None,
        same_winner=min(names, key=live_cost.__getitem__) == min(names, key=simulated_cost.__getitem__) if names else None,
    )


def by_policy(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records grouped by policy, policies in the order they first appear."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.policy, []).append(record)
    return groups


def _latency_errors(records: Sequence[Record]) -> np.ndarray:
    """Simulated against live latency in percent, float64 [requests answered in both]."""
    pairs = [
        (record.simulated_latency_s, record.latency_s)
        for record in records
        if record.simulated_latency_s is not None and not record.failed and record.latency_s > 0
    ]
    simulated_s, live_s = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    errors: np.ndarray = 100 * (simulated_s / live_s - 1)
    return errors


def _paired_costs(live: Sequence[Record], simulated: Sequence[Record]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean cost per policy in both worlds, over the requests that both played."""
    live_cost: dict[str, float] = {}
    simulated_cost: dict[str, float] = {}
    groups = by_policy(simulated)
    for policy, records in by_policy(live).items():
        there = {record.key: record.cost for record in groups.get(policy, ())}
        shared = [(record.cost, there[record.key]) for record in records if record.key in there]
        if shared:
            live_cost[policy], simulated_cost[policy] = (float(mean) for mean in np.mean(shared, axis=0))
    return live_cost, simulated_cost


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None
