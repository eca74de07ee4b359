"""Mean cost per request of policies on simulated episodes kept apart from training, the same ones for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.heuristics.selection import is_plain
from agents.simworld import split_actions
from envs.costs import CostModel
from envs.features import MYOPIC_INDEX, Encoder, Features
from envs.scenario import Scenario
from envs.simulators import batch_sim
from runtime.messages import Decision
from runtime.profile import Profile

Chooser = Callable[[Features], NDArray[Any]]
"""Features of N decisions -> actions [N], or with a row of the job's taus [N, 2]"""

FIRST_SEED = 900_000
"""Training draws its seeds from all 32-bit numbers; meeting these is unlikely and would do no harm."""


class HeldOut:
    """`num_episodes` episodes, played side by side and in full by each chooser that is asked about."""

    def __init__(
        self,
        scenario: Scenario,
        profile: Profile,
        decisions: tuple[Decision, ...],
        num_episodes: int,
        *,
        split: str = "validation",
        first_seed: int = FIRST_SEED,
    ) -> None:
        self.scenario, self._profile, self._split = scenario, profile, split
        self._sim = batch_sim(
            scenario, profile, num_episodes, split=split, decisions=decisions, expected_error=True, pool_size=num_episodes
        )
        self._encoder = Encoder(self._sim.cost_model)
        self._seeds = np.arange(first_seed, first_seed + num_episodes)

    @property
    def cost_model(self) -> CostModel:
        """Of the candidates."""
        return self._sim.cost_model

    def costs(self, choose: Chooser, *, beside: bool = True) -> NDArray[np.float64]:
        """[episodes]: mean cost per request of each episode, wrong answers counted by their measured probability.

        With a training job, the worth of what its loss fell by in the episode is shared out among the requests, unless not `beside`.
        """
        worth = 0.0 if beside else self.cost_model.objective.loss_drop
        raw = self._sim.reset(self._seeds)
        total: NDArray[np.float64] = np.zeros(len(self._seeds))
        for _ in range(self._sim.num_requests):
            step = self._sim.step(*split_actions(choose(self._encoder.encode(raw))))
            total -= (step.reward - worth * step.loss_drop) / self._sim.num_requests
            raw = step.raw
        return total

    def with_first_tau(self, tau: int) -> HeldOut:
        """The same episodes, the job beginning with another tau."""
        fit = self.scenario.fit
        scenario = self.scenario.of_fit(msgspec.structs.replace(fit, tau=msgspec.structs.replace(fit.tau, tau=tau)))
        first_seed, decisions = int(self._seeds[0]), self._sim.decisions
        return HeldOut(scenario, self._profile, decisions, len(self._seeds), split=self._split, first_seed=first_seed)


def choose_greedily(features: Features) -> NDArray[Any]:
    """The candidate with the least predicted cost of its own: the greedy heuristic over the catalogue."""
    actions: NDArray[Any] = np.where(features.mask, features.candidates[:, :, MYOPIC_INDEX], np.inf).argmin(axis=1)
    return actions


def choose_always(action: int) -> Chooser:
    """The same candidate for every request."""

    def choose(features: Features) -> NDArray[Any]:
        return np.full(len(features.state), action)

    return choose


def with_tau(choose: Chooser, row: int) -> Chooser:
    """The same requests' decisions, and always that row of the job's taus."""

    def both(features: Features) -> NDArray[Any]:
        return np.stack([choose(features), np.full(len(features.state), row)], axis=1)

    return both


def best_fixed_tau(held_out: HeldOut) -> HeldOut:
    """The same, the job beginning with the fixed tau that is cheapest with greedy; without a job there is nothing to choose."""
    job = held_out.cost_model.job
    if job is None:
        return held_out
    costs = {tau: held_out.costs(with_tau(choose_greedily, row)).mean() for row, tau in enumerate(job.taus)}
    return held_out.with_first_tau(min(costs, key=costs.__getitem__))


def reference_costs(held_out: HeldOut) -> dict[str, float]:
    """Mean cost per request of greedy, and of the static policies that the candidates have, on the held-out episodes.

    With a training job they leave it the tau that it begins with, and greedy is also tried with each of the others.
    """
    choosers: dict[str, Chooser] = {"greedy": choose_greedily}
    model = held_out.cost_model
    last = len(model.exit_ends) - 1
    end = model.exit_ends[last]
    places = {(end, end): "device-only", (0, end): "edge-only", (0, 0): "cloud-only"}
    for action, decision in enumerate(model.decisions):
        if is_plain(decision) and decision.exit == last and decision.cuts in places:
            choosers[places[decision.cuts]] = choose_always(action)
    if model.job is not None:
        choosers |= {f"greedy, tau {tau}": with_tau(choose_greedily, row) for row, tau in enumerate(model.job.taus)}
    return {name: float(held_out.costs(choose).mean()) for name, choose in sorted(choosers.items())}
