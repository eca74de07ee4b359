"""Controllers of tau as pure steps: state and a round's report in, next state out."""

from __future__ import annotations

import math
from typing import Protocol

import msgspec

from runtime.errors import InvalidConfig
from runtime.training.sketch import SKETCH_SIZE
from runtime.training.tau import MIN_SMOOTHNESS, LossSurface, objective

MORE_GRADIENTS = 1
"""What adaptive tau measures costs a client in a round: one at its own weights, on the minibatch of its first step, which gives the
one at the global weights."""
MORE_BYTES = 4 * SKETCH_SIZE
"""And so many at most on its way up, for that gradient's sketch."""


class RoundReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the last round showed and took.  Costs are in the budget's unit: seconds, joules or bytes."""

    step_cost: float
    """c, of one local step: the slowest client's for time, the sum for energy."""
    aggregation_cost: float
    """b, of one aggregation."""
    spent: float
    """By the whole round."""
    surface: LossSurface | None = None
    """None: nothing was estimated, tau stays."""

    def __post_init__(self) -> None:
        costs = (self.step_cost, self.aggregation_cost, self.spent)
        if not all(0.0 <= cost < math.inf for cost in costs):
            raise ValueError(f"costs of a round must be finite and >= 0, got {costs}")


def round_report(tau: int, compute_s: float, other_s: float, surface: LossSurface | None) -> RoundReport:
    """What a round of `tau` steps cost in seconds, of which its clients computed `compute_s`; what a surface took is no step's."""
    step_s = compute_s / (tau + (MORE_GRADIENTS if surface is not None else 0))
    total_s = compute_s + other_s
    return RoundReport(step_cost=step_s, aggregation_cost=max(0.0, total_s - tau * step_s), spent=total_s, surface=surface)


class TauState(msgspec.Struct, frozen=True, kw_only=True):
    """What a controller remembers, and what it wants next."""

    tau: int
    """Local steps of the next round."""
    spent: float = 0.0
    """Of the budget so far."""
    surface: LossSurface | None = None
    """Smoothed over rounds; the last finite one."""
    discard: bool = False
    """The last round diverged: go on from the weights before it."""
    finished: bool = False
    """The budget pays for no further round."""


class TauController(Protocol):
    """Decides tau after each aggregation."""

    def start(self) -> TauState:
        """Before the first round."""
        ...

    def next(self, state: TauState, report: RoundReport) -> TauState:
        """After a round."""
        ...


def affordable_steps(remaining: float, step_cost: float, aggregation_cost: float) -> int | None:
    """Local steps that `remaining` pays for besides one aggregation, < 0 when not even that; None: any number."""
    if math.isinf(remaining) or (step_cost == 0.0 and remaining >= aggregation_cost):
        return None
    if step_cost == 0.0:
        return -1
    return math.floor((remaining - aggregation_cost) / step_cost)


def _spend(state: TauState, report: RoundReport, budget: float, reserve: float, tau: int) -> TauState:
    """Charge the round; shrink the next one to what is left, or finish."""
    spent = state.spent + report.spent
    steps = affordable_steps(budget - spent - reserve, report.step_cost, report.aggregation_cost)
    finished = steps is not None and steps < 1
    next_tau = tau if steps is None or finished else min(tau, steps)
    return msgspec.structs.replace(state, tau=next_tau, spent=spent, finished=finished)


class FixedTau(msgspec.Struct, frozen=True, kw_only=True):
    """Always the same tau, except for a last round that the budget shortens: the reference."""

    tau: int
    budget: float = math.inf

    def __post_init__(self) -> None:
        if self.tau < 1 or not self.budget > 0.0:
            raise InvalidConfig(f"a fixed tau must be >= 1 and its budget > 0, got {self.tau} and {self.budget}")

    def start(self) -> TauState:
        """The tau that it was given."""
        return TauState(tau=self.tau)

    def next(self, state: TauState, report: RoundReport) -> TauState:
        """The same tau while the budget lasts; a diverged round is discarded here too."""
        discard = report.surface is not None and not report.surface.is_finite()
        return _spend(msgspec.structs.replace(state, discard=discard), report, self.budget, 0.0, self.tau)


class DecidedTau(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever was last decided stays: by whom, and for which round, is the root's business."""

    tau: int
    """Until anything is decided."""

    def start(self) -> TauState:
        """The tau that it was given."""
        return TauState(tau=self.tau)

    def next(self, state: TauState, report: RoundReport) -> TauState:
        """The tau of the round before; a diverged round is discarded here too."""
        discard = report.surface is not None and not report.surface.is_finite()
        return msgspec.structs.replace(state, spent=state.spent + report.spent, discard=discard)


class AdaptiveTau(msgspec.Struct, frozen=True, kw_only=True):
    """Minimises G(t) after each round.  Source: Wang et al., JSAC 2019, Algorithm 2."""

    learning_rate: float
    """eta of the local steps."""
    budget: float
    """R, in the unit of the reports' costs."""
    phi: float = 0.025
    """Weighs steps against divergence; the paper's 0.025 is for a convex loss, 5e-5 for a CNN."""
    search_factor: int = 10
    max_tau: int = 100
    smoothing: float = 0.0
    """Weight of the earlier estimates in the exponential mean."""
    reserves_final_loss: bool = True
    """Keep one local step and one aggregation of the budget for the loss of the final weights."""

    def __post_init__(self) -> None:
        positive = (self.learning_rate, self.budget, self.phi)
        if not all(0.0 < value < math.inf for value in positive):
            raise InvalidConfig(f"learning_rate, budget and phi must be finite and > 0, got {positive}")
        if self.search_factor < 2 or self.max_tau < 1 or not 0.0 <= self.smoothing < 1.0:
            raise InvalidConfig(
                "expected search_factor >= 2, max_tau >= 1 and smoothing in [0, 1), "
                f"got {self.search_factor}, {self.max_tau}, {self.smoothing}"
            )

    def start(self) -> TauState:
        """tau = 1: nothing is known yet."""
        return TauState(tau=1)

    def next(self, state: TauState, report: RoundReport) -> TauState:
        """argmin of G within the search range; after a diverged round 1, with the older estimates."""
        reserve = report.step_cost + report.aggregation_cost if self.reserves_final_loss else 0.0
        if report.surface is not None and not report.surface.is_finite():
            return _spend(msgspec.structs.replace(state, discard=True), report, self.budget, reserve, 1)
        surface = state.surface if report.surface is None else self._smoothed(state.surface, report.surface)
        tau = state.tau if surface is None else self.best_tau(surface, report, state.tau)
        return _spend(msgspec.structs.replace(state, surface=surface, discard=False), report, self.budget, reserve, tau)

    def best_tau(self, surface: LossSurface, report: RoundReport, previous: int) -> int:
        """argmin of G(t) over 1 .. min(search_factor previous, max_tau); the smallest of equals."""
        reserve = report.step_cost + report.aggregation_cost if self.reserves_final_loss else 0.0
        usable = self.budget - reserve
        if usable <= 0.0 or report.step_cost + report.aggregation_cost == 0.0:
            return 1

        def bound(num_steps: int) -> float:
            total = usable * num_steps / (report.step_cost * num_steps + report.aggregation_cost)
            return objective(surface, learning_rate=self.learning_rate, phi=self.phi, total_steps=total, num_steps=num_steps)

        return min(range(1, min(self.search_factor * previous, self.max_tau) + 1), key=bound)

    def _smoothed(self, old: LossSurface | None, new: LossSurface) -> LossSurface:
        new = msgspec.structs.replace(new, smoothness=max(new.smoothness, MIN_SMOOTHNESS))
        if old is None:
            return new
        kept = self.smoothing
        return LossSurface(
            lipschitz=kept * old.lipschitz + (1.0 - kept) * new.lipschitz,
            smoothness=kept * old.smoothness + (1.0 - kept) * new.smoothness,
            divergence=kept * old.divergence + (1.0 - kept) * new.divergence,
        )
