"""The fit is at its minimum, and says what it knows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.inference.logistic import fit_logistic, log_loss, sigmoid


def test_without_weights_it_is_the_smoothed_base_rate() -> None:
    """One positive of four, by hand: targets (1+1)/(1+2) and 1/(3+2), mean (2/3 + 3/5) / 4."""
    model = fit_logistic(np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 0]), math.inf)
    assert model.probability(np.array([100.0, -7.0])) == pytest.approx((2 / 3 + 3 / 5) / 4)


@given(st.integers(0, 200), st.floats(0.01, 100.0))
def test_the_fit_is_where_its_gradient_vanishes(seed: int, l2: float) -> None:
    """Of the penalised log-loss on smoothed targets, whatever the data; separable ones and constant columns too."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(30, 3)) * [1.0, 100.0, 0.0] + 5.0
    targets = (features[:, 0] + rng.normal(size=30) * (seed % 3) > 5.0).astype(int)
    model = fit_logistic(features, targets, l2)
    positive = int(targets.sum())
    smooth = np.where(targets == 1, (positive + 1) / (positive + 2), 1 / (30 - positive + 2))
    residual = model.probability(features) - smooth
    design = (features - model.mean) / model.scale
    np.testing.assert_allclose(design.T @ residual + l2 * model.weights, 0.0, atol=1e-3)
    assert residual.sum() == pytest.approx(0.0, abs=1e-3)


def test_it_recovers_the_odds_that_made_the_data() -> None:
    """20,000 draws of log odds 2 x - 1: within four standard errors."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 1))
    targets = rng.random(20_000) < sigmoid(2 * x[:, 0] - 1)
    model = fit_logistic(x, targets, 1e-3)
    assert model.log_odds(np.array([[1.0], [0.0]])) == pytest.approx([1.0, -1.0], abs=0.15)


@pytest.mark.parametrize("targets", [np.zeros(5), np.ones(5)])
def test_one_class_alone_gives_no_certainty(targets: np.ndarray) -> None:
    """Never 0 or 1."""
    probability = fit_logistic(np.arange(5.0)[:, None], targets, 1.0).probability(np.array([[2.0]]))[0]
    assert 0.1 < probability < 0.9


def test_huge_log_odds_do_not_overflow() -> None:
    """A certain miss costs its log odds."""
    assert log_loss(np.array([1e6, -1e6]), np.array([1.0, 0.0])) == 0.0
    assert log_loss(np.array([1e6]), np.array([0.0])) == pytest.approx(1e6)
    np.testing.assert_array_equal(sigmoid(np.array([-1e6, 0.0, 1e6])), [0.0, 0.5, 1.0])


def test_rescaled_log_odds() -> None:
    """Twice the slope, three more."""
    model = fit_logistic(np.arange(6.0)[:, None], np.array([0, 0, 1, 0, 1, 1]), 1.0)
    x = np.array([[1.5]])
    assert model.rescaled(2.0, 3.0).log_odds(x) == pytest.approx(2 * model.log_odds(x) + 3)


@pytest.mark.parametrize(
    ("features", "targets", "l2"),
    [
        (np.zeros((3, 2)), np.zeros(2), 1.0),
        (np.zeros((0, 2)), np.zeros(0), 1.0),
        (np.full((3, 2), np.nan), np.zeros(3), 1.0),
        (np.zeros((3, 2)), np.zeros(3), 0.0),
    ],
)
def test_what_does_not_fit_is_refused(features: np.ndarray, targets: np.ndarray, l2: float) -> None:
    """Other lengths, nothing, NaN, no ridge."""
    with pytest.raises(InvalidInput):
        fit_logistic(features, targets, l2)
