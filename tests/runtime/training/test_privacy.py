"""Clipping, noise, and an accountant that agrees with what is published."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidConfig, InvalidInput
from runtime.messages import PrivacyConfig
from runtime.training.privacy import ORDERS, account, private_mean, renyi_epsilon
from tests.runtime.training.updates import updates_of

MNIST_FRACTION = 256 / 60_000


def config_of(noise: float = 1.0, fraction: float = 0.01, max_norm: float = 1.0, delta: float = 1e-5) -> PrivacyConfig:
    """A promise at delta = 1e-5."""
    return PrivacyConfig(max_norm=max_norm, noise_multiplier=noise, sampling_fraction=fraction, delta=delta)


@pytest.mark.parametrize(
    ("noise", "fraction", "rounds", "published"),
    [
        (4.0, 0.01, 10_000, 1.26),  # Abadi et al., CCS 2016, section 3.2: the moments accountant's figure
        (1.12, MNIST_FRACTION, 60 * 60_000 // 256, 2.92),  # TensorFlow Privacy, tutorials/README.md, the three rows of its table
        (0.6, MNIST_FRACTION, 30 * 60_000 // 256, 9.74),
        (1.2, MNIST_FRACTION, 10 * 60_000 // 256, 1.20),
        (1.3, MNIST_FRACTION, 20 * 60_000 // 256, 1.34),  # Bu et al., HDSR 2020, figure 4: the moments accountant's two figures
        (0.7, MNIST_FRACTION, 70 * 60_000 // 256, 8.68),
    ],
)
def test_epsilon_is_the_published_one(noise: float, fraction: float, rounds: int, published: float) -> None:
    """At delta = 1e-5, to the figures printed; integer orders alone are never below fractional ones and here 3 % above at most."""
    assert published - 0.005 <= account(config_of(noise, fraction), {fraction: rounds}).epsilon <= 1.035 * published


def test_without_sampling_it_is_the_gaussian_mechanism() -> None:
    """a / (2 z^2), and the sampled formula goes there as q goes to 1."""
    for order in (2, 8, 64):
        assert renyi_epsilon(2.0, 1.0, order) == pytest.approx(order / 8.0)
        assert renyi_epsilon(2.0, 1.0 - 1e-12, order) == pytest.approx(order / 8.0, rel=1e-6)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_renyi_epsilon_is_the_integral_that_defines_it(order: int) -> None:
    """Numerically integrated E over N(0, z^2) of (((1-q) N(0) + q N(1)) / N(0))^a."""
    noise, fraction = 1.5, 0.2
    x = np.linspace(-30.0, 30.0, 200_001)
    density = np.exp(-(x**2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))
    ratio = 1 - fraction + fraction * np.exp((2 * x - 1) / (2 * noise**2))
    integral = float(np.sum(density * ratio**order) * (x[1] - x[0]))
    assert renyi_epsilon(noise, fraction, order) == pytest.approx(math.log(integral) / (order - 1), rel=1e-6)


@settings(max_examples=15)
@given(st.floats(0.5, 5.0), st.floats(0.001, 0.5), st.integers(1, 5000))
def test_epsilon_is_monotone(noise: float, fraction: float, rounds: int) -> None:
    """More noise, fewer participants, fewer rounds or a larger delta never cost more privacy."""
    spent = account(config_of(noise, fraction), {fraction: rounds}).epsilon
    slack = 1e-9 * (1 + spent)
    assert account(config_of(noise * 1.1, fraction), {fraction: rounds}).epsilon <= spent + slack
    assert account(config_of(noise, fraction), {fraction * 0.9: rounds}).epsilon <= spent + slack
    assert account(config_of(noise, fraction), {fraction: rounds - 1}).epsilon <= spent + slack
    assert account(config_of(noise, fraction, delta=1e-4), {fraction: rounds}).epsilon <= spent + slack


def test_rounds_of_different_fractions_add_up() -> None:
    """Without sampling by hand: order 2 costs 1 / z^2 a round; sampled rounds beside them cost their own, in any order."""
    whole, both = account(config_of(100.0), {1.0: 3}), account(config_of(100.0), {0.5: 2, 1.0: 3})
    assert whole.epsilon == pytest.approx(3 * whole.order / (2 * 100.0**2) + math.log(1e5) / (whole.order - 1))
    more = 2 * renyi_epsilon(100.0, 0.5, both.order)
    assert both.epsilon == pytest.approx(3 * both.order / (2 * 100.0**2) + more + math.log(1e5) / (both.order - 1))


def test_the_ends_of_the_scale() -> None:
    """Nothing done costs nothing; without noise nothing is promised; no loss comes out below zero."""
    assert account(config_of(), {}).epsilon == account(config_of(), {0.01: 0}).epsilon == 0.0
    assert account(config_of(noise=0.0), {0.01: 1}).epsilon == math.inf
    assert all(renyi_epsilon(1e6, 1e-6, order) >= 0.0 for order in ORDERS)


def test_the_private_mean_without_noise_by_hand() -> None:
    """(3, 4) is clipped to (0.6, 0.8), (0, 0.5) stays: their sum over 4 expected clients."""
    updates = updates_of(np.array([[3.0, 4.0], [0.0, 0.5]], np.float32))
    mean = private_mean(updates, config_of(noise=0.0), 4.0, np.random.default_rng(0))
    np.testing.assert_allclose(mean, [0.15, 1.3 / 4], rtol=1e-6)


def test_the_noise_has_the_promised_size() -> None:
    """z C / num_expected, over 20000 coordinates of zeros, within five standard errors."""
    updates = updates_of(np.zeros((1, 20_000), np.float32))
    mean = private_mean(updates, config_of(noise=2.0, max_norm=3.0), 10.0, np.random.default_rng(0))
    assert float(mean.std()) == pytest.approx(0.6, rel=5 / math.sqrt(2 * 20_000))
    assert abs(float(mean.mean())) < 5 * 0.6 / math.sqrt(20_000)


def test_one_client_moves_the_mean_by_at_most_its_bound() -> None:
    """The sensitivity that the noise is measured against, for the same noise."""
    rows = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    rows[4] *= 1e6
    with_, without = (private_mean(updates_of(part), config_of(), 5.0, np.random.default_rng(2)) for part in (rows, rows[:4]))
    assert np.linalg.norm(with_ - without) <= 1.0 / 5.0 + 1e-6


def test_impossible_promises_are_refused() -> None:
    """Each would make the accountant lie."""
    for change in ({"fraction": 0.0}, {"fraction": 1.1}, {"delta": 0.0}, {"noise": -1.0}, {"max_norm": 0.0}, {"noise": math.nan}):
        with pytest.raises(InvalidConfig):
            config_of(**change)
    for releases in ({0.01: -1}, {0.0: 1}, {1.1: 1}):
        with pytest.raises(InvalidInput):
            account(config_of(), releases)
    with pytest.raises(InvalidInput):
        renyi_epsilon(1.0, 0.5, 1)
    with pytest.raises(InvalidInput):
        private_mean(updates_of(np.zeros((1, 1), np.float32)), config_of(), 0.0, np.random.default_rng(0))
