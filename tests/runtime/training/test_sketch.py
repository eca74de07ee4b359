"""Sketches of gradients: linear, alike on every node, and as far apart as what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.training.sketch import SKETCH_SIZE, Sketch
from runtime.training.tau import ClientEstimate, combine_estimates

NUM_ELEMENTS = 34_000


def gradients(count: int, spread: float) -> np.ndarray:
    """float32 [count, P]: a common direction, and so much of each client's own; sparse, as gradients behind rectifiers are."""
    rng = np.random.default_rng(1)
    drawn = rng.standard_normal((count, NUM_ELEMENTS)) * (rng.random(NUM_ELEMENTS) < 0.2)
    return (rng.standard_normal(NUM_ELEMENTS) + spread * drawn).astype(np.float32)


def test_a_short_vector_stays_what_it_is() -> None:
    """There is nothing to gain."""
    vector = np.arange(SKETCH_SIZE, dtype=np.float32)
    assert Sketch(SKETCH_SIZE, 0)(vector) is vector


def test_every_node_sketches_alike() -> None:
    """And another job otherwise."""
    (vector,) = gradients(1, 1.0)
    first, again, other = (Sketch(NUM_ELEMENTS, seed)(vector) for seed in (5, 5, 6))
    assert first.dtype == np.float32
    assert first.shape == (SKETCH_SIZE,)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_is_linear() -> None:
    """The sketch of a difference is the difference of sketches."""
    one, other = gradients(2, 1.0)
    sketch = Sketch(NUM_ELEMENTS, 3)
    np.testing.assert_allclose(sketch(one - other), sketch(one) - sketch(other), atol=1e-3)


@pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
def test_the_divergence_of_clients_survives(spread: float) -> None:
    """delta of eight clients from sketches against delta from the gradients, over ten jobs: unbiased, and each within 5 %."""
    vectors = gradients(8, spread)
    estimates = [ClientEstimate(num_examples=10 + client, lipschitz=1.0, smoothness=1.0) for client in range(8)]
    exact = combine_estimates(estimates, list(vectors)).divergence
    sketched = []
    for seed in range(10):
        sketch = Sketch(NUM_ELEMENTS, seed)
        sketched.append(combine_estimates(estimates, [sketch(vector) for vector in vectors]).divergence)
    np.testing.assert_allclose(sketched, exact, rtol=0.05)
    assert np.mean(sketched) == pytest.approx(exact, rel=0.02)
