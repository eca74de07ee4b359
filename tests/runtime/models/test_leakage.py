"""Distance correlation: known values and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.models.leakage import distance_correlation

samples = arrays(np.float64, st.tuples(st.integers(3, 12), st.integers(1, 4)), elements=st.floats(-100, 100, width=32))


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, written out with loops."""
    n = len(x)
    centred = []
    for sample in (x, y):
        a = [[float(np.linalg.norm(sample[j] - sample[k])) for k in range(n)] for j in range(n)]
        rows = [sum(row) / n for row in a]
        mean = sum(rows) / n
        centred.append([[a[j][k] - rows[j] - rows[k] + mean for k in range(n)] for j in range(n)])
    first, second = centred
    products = [sum(u[j][k] * v[j][k] for j in range(n) for k in range(n)) for u, v in ((first, second), (first, first), (second, second))]
    return float(np.sqrt(products[0] / np.sqrt(products[1] * products[2])))


def test_known_value() -> None:
    """x = 0, 1, 2 and y = 0, 1, 0 give dCov^2 = 8/81, dVar(x) = 40/81, dVar(y) = 16/81, worked out on paper."""
    x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [0.0]])
    expected = np.sqrt((8 / 81) / np.sqrt((40 / 81) * (16 / 81)))
    assert distance_correlation(x, y) == pytest.approx(expected, abs=1e-9)


def test_equals_the_definition() -> None:
    """The matrix form equals the loops of the definition."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 2, 2))
    assert distance_correlation(x, y) == pytest.approx(by_hand(x, y), abs=1e-9)


@given(samples, st.floats(-50, 50), st.sampled_from([-3.0, -1.0, 0.25, 10.0]), st.integers(0, 2**32 - 1))
def test_moving_turning_and_scaling_leak_everything(x: np.ndarray, shift: float, scale: float, seed: int) -> None:
    """1 for y = scale * x Q + shift with Q orthogonal, unless x is (nearly) constant."""
    if x.std(axis=0).max() < 1e-3:
        return
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(x.shape[1], x.shape[1])))
    assert distance_correlation(x, scale * x @ turn + shift) == pytest.approx(1.0, abs=1e-4)


@given(samples, st.integers(0, 2**32 - 1))
def test_symmetric_and_bounded(x: np.ndarray, seed: int) -> None:
    """The order of the two does not matter, and the value is in [0, 1]."""
    y = np.random.default_rng(seed).normal(size=(len(x), 2))
    value = distance_correlation(x, y)
    assert 0 <= value <= 1
    assert value == pytest.approx(distance_correlation(y, x), abs=1e-9)


def test_independent_samples_leak_little() -> None:
    """Many independent samples of few dimensions come close to 0."""
    rng = np.random.default_rng(1)
    assert distance_correlation(rng.normal(size=(2000, 1)), rng.normal(size=(2000, 1))) < 0.08


def test_sees_dependence_without_correlation() -> None:
    """y = x^2 on symmetric x has no linear correlation, and is found all the same."""
    x = np.linspace(-1, 1, 201)[:, None]
    assert abs(np.corrcoef(x[:, 0], x[:, 0] ** 2)[0, 1]) < 1e-9
    assert distance_correlation(x, x**2) > 0.4


def test_constant_sample_leaks_nothing() -> None:
    """What never varies tells nothing."""
    x = np.arange(5.0)[:, None]
    assert distance_correlation(x, np.ones((5, 3))) == 0.0


@pytest.mark.parametrize(("n", "m"), [(3, 4), (1, 1), (0, 0)])
def test_sample_counts_are_checked(n: int, m: int) -> None:
    """Unpaired samples, or fewer than two, are refused."""
    with pytest.raises(ValueError, match="samples"):
        distance_correlation(np.zeros((n, 2)), np.zeros((m, 2)))
