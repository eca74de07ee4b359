"""Aggregation frequency, by hand and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtime.errors import InvalidConfig, InvalidInput
from runtime.training.tau import ClientEstimate, LossSurface, combine_estimates, estimate_client, gap, objective
from runtime.training.tau_control import AdaptiveTau, FixedTau, RoundReport, TauState, affordable_steps, round_report

SURFACE = LossSurface(lipschitz=2.0, smoothness=4.0, divergence=1.0)


def report_of(surface: LossSurface | None = SURFACE, spent: float = 0.0, step: float = 0.013, aggregation: float = 0.13) -> RoundReport:
    """A round that took what the paper's testbed took."""
    return RoundReport(step_cost=step, aggregation_cost=aggregation, spent=spent, surface=surface)


def test_client_estimates_by_hand() -> None:
    """|w_i - w| = 5, losses 3 apart, gradients 10 apart: rho = 0.6, beta = 2."""
    estimate = estimate_client(
        num_examples=7,
        local=np.float32([3, 4]),
        start=np.float32([0, 0]),
        local_loss=1.0,
        global_loss=4.0,
        local_gradient=np.float32([6, 8]),
        global_gradient=np.float32([0, 0]),
    )
    assert (estimate.num_examples, estimate.lipschitz, estimate.smoothness) == (7, pytest.approx(0.6), pytest.approx(2.0))


def test_weights_that_did_not_move_tell_nothing() -> None:
    """Below 1e-10 the ratios are 0, not noise."""
    same = np.float32([1, 2])
    estimate = estimate_client(
        num_examples=1, local=same, start=same, local_loss=1.0, global_loss=2.0, local_gradient=same, global_gradient=same + 1
    )
    assert (estimate.lipschitz, estimate.smoothness) == (0.0, 0.0)


def test_estimates_combine_by_examples() -> None:
    """Shares 1/4, 3/4: rho = 2.5; beta = 6.5; the mean gradient is 3, so delta = 3/4 + 3/4."""
    clients = [ClientEstimate(num_examples=1, lipschitz=1.0, smoothness=2.0), ClientEstimate(num_examples=3, lipschitz=3.0, smoothness=8.0)]
    surface = combine_estimates(clients, [np.float32([0.0]), np.float32([4.0])])
    assert (surface.lipschitz, surface.smoothness, surface.divergence) == pytest.approx((2.5, 6.5, 1.5))


def test_smoothness_has_a_floor() -> None:
    """h divides by it."""
    flat = [ClientEstimate(num_examples=1, lipschitz=0.0, smoothness=0.0)]
    assert combine_estimates(flat, [np.float32([1.0])]).smoothness == 1e-5
    with pytest.raises(InvalidInput, match="one gradient per estimate"):
        combine_estimates(flat, [])


def test_gap_by_hand() -> None:
    """eta beta = 0.4: h(2) = (1.96 - 1) / 4 - 0.2 = 0.04, h(1) = 0; it grows, and overflow is infinity."""
    assert gap(SURFACE, 0.1, 1) == pytest.approx(0.0, abs=1e-15)
    assert gap(SURFACE, 0.1, 2) == pytest.approx(0.04)
    gaps = [gap(SURFACE, 0.1, t) for t in range(1, 30)]
    assert gaps == sorted(gaps)
    assert gap(SURFACE, 1e6, 10_000) == math.inf


def test_objective_by_hand() -> None:
    """T = 10, phi = 0.5, eta = 0.1, rho h = 0.08, t = 2: root = sqrt(1 + 4 100 0.5 0.1 0.04) = sqrt(1.8)."""
    value = objective(SURFACE, learning_rate=0.1, phi=0.5, total_steps=10.0, num_steps=2)
    assert value == pytest.approx((1 + math.sqrt(1.8)) / 1.0 + 0.08)


def plain_best_tau(surface: LossSurface, *, eta: float, phi: float, budget: float, c: float, b: float, limit: int) -> int:
    """The formulas written out, in powers."""
    best, best_value = 0, math.inf
    for t in range(1, limit + 1):
        h = surface.divergence / surface.smoothness * ((eta * surface.smoothness + 1) ** t - 1) - eta * surface.divergence * t
        rho_h = surface.lipschitz * max(0.0, h)
        steps = (budget - c - b) * t / (c * t + b)
        value = (1 + math.sqrt(1 + 4 * steps**2 * phi * eta * rho_h / t)) / (2 * eta * phi * steps) + rho_h
        if value < best_value:
            best, best_value = t, value
    return best


@pytest.mark.parametrize("divergence", [0.01, 0.1, 1.0, 10.0])
def test_adaptive_tau_is_the_argmin_written_out(divergence: float) -> None:
    """On the paper's budget and costs, from tau = 10."""
    surface = LossSurface(lipschitz=1.0, smoothness=2.0, divergence=divergence)
    state = AdaptiveTau(learning_rate=0.01, budget=15.0).next(TauState(tau=10), report_of(surface))
    assert state.tau == plain_best_tau(surface, eta=0.01, phi=0.025, budget=15.0, c=0.013, b=0.13, limit=100)


def test_tau_starts_at_one_and_grows_tenfold_at_most() -> None:
    """Clients that agree need no aggregation, but the search range and the cap hold it back: 1, 10, 100, 100."""
    controller = AdaptiveTau(learning_rate=0.01, budget=1e6)
    state, seen = controller.start(), []
    for _ in range(4):
        seen.append(state.tau)
        state = controller.next(state, report_of(LossSurface(lipschitz=1.0, smoothness=1.0, divergence=0.0)))
    assert seen == [1, 10, 100, 100]


def test_more_divergence_never_means_rarer_aggregation() -> None:
    """tau falls as clients' gradients spread."""
    controller = AdaptiveTau(learning_rate=0.01, budget=15.0)
    taus = [
        controller.best_tau(LossSurface(lipschitz=1.0, smoothness=2.0, divergence=d), report_of(), 10) for d in (0.0, 0.1, 1.0, 10.0, 100.0)
    ]
    assert taus == sorted(taus, reverse=True)
    assert taus[0] > taus[-1]


def test_a_diverged_round_is_discarded_and_followed_by_one_step() -> None:
    """NaN never enters the estimates, and the round after is as short as can be."""
    controller = AdaptiveTau(learning_rate=0.01, budget=15.0)
    before = controller.next(TauState(tau=10), report_of())
    bad = controller.next(before, report_of(LossSurface(lipschitz=math.nan, smoothness=1.0, divergence=1.0)))
    assert (bad.tau, bad.discard, bad.surface) == (1, True, before.surface)
    assert controller.next(bad, report_of()).discard is False


def test_the_last_round_is_shortened_to_the_budget() -> None:
    """Of 10 seconds 7 are spent; 1 + 0.5 are kept for the final loss, 0.5 for aggregating, and one step fits into the last one."""
    controller = AdaptiveTau(learning_rate=0.01, budget=10.0)
    state = controller.next(TauState(tau=50, spent=0.0), report_of(None, spent=7.0, step=1.0, aggregation=0.5))
    assert (state.tau, state.spent, state.finished) == (1, 7.0, False)
    assert controller.next(state, report_of(None, spent=1.5, step=1.0, aggregation=0.5)).finished


def test_what_a_surface_takes_is_no_step_s() -> None:
    """Five gradients of 2 s each and 3 s of everything else: five steps of 2 s, or four and an aggregation of 5 s."""
    surface = LossSurface(lipschitz=1.0, smoothness=1.0, divergence=1.0)
    assert round_report(5, 10.0, 3.0, None) == RoundReport(step_cost=2.0, aggregation_cost=3.0, spent=13.0)
    assert round_report(4, 10.0, 3.0, surface) == RoundReport(step_cost=2.0, aggregation_cost=5.0, spent=13.0, surface=surface)


def test_fixed_tau_stays_until_its_budget_ends() -> None:
    """5, 5, then the 3 that the rest pays for, then nothing."""
    controller = FixedTau(tau=5, budget=16.0)
    state, seen = controller.start(), []
    while not state.finished:
        seen.append(state.tau)
        state = controller.next(state, report_of(None, spent=state.tau * 1.0 + 1.0, step=1.0, aggregation=1.0))
    assert seen == [5, 5, 3]
    assert not FixedTau(tau=5).next(FixedTau(tau=5).start(), report_of(spent=1e9)).finished


def test_affordable_steps_at_the_edges() -> None:
    """Steps that cost nothing are any number, unless the aggregation alone is too dear."""
    assert affordable_steps(10.0, 3.0, 1.0) == 3
    assert affordable_steps(0.5, 3.0, 1.0) == -1
    assert affordable_steps(1.0, 0.0, 1.0) is None
    assert affordable_steps(0.5, 0.0, 1.0) == -1
    assert affordable_steps(math.inf, 1.0, 1.0) is None


def test_smoothing_keeps_a_share_of_the_past() -> None:
    """0.25 of the old, 0.75 of the new."""
    controller = AdaptiveTau(learning_rate=0.01, budget=15.0, smoothing=0.25)
    first = controller.next(controller.start(), report_of())
    second = controller.next(first, report_of(LossSurface(lipschitz=6.0, smoothness=8.0, divergence=5.0)))
    assert second.surface == LossSurface(lipschitz=5.0, smoothness=7.0, divergence=4.0)


@pytest.mark.parametrize("change", [{"learning_rate": 0.0}, {"budget": math.inf}, {"phi": -1.0}, {"search_factor": 1}, {"smoothing": 1.0}])
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    """Each would make the argmin meaningless."""
    with pytest.raises(InvalidConfig):
        AdaptiveTau(**({"learning_rate": 0.1, "budget": 1.0} | change))  # type: ignore[arg-type]
