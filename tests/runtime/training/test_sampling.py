"""Client sampling."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import InvalidInput
from runtime.training.sampling import sample_by_examples, sample_uniformly

CLIENTS = ("a", "b", "c", "d")


def test_samples_are_different_clients_and_repeat_with_the_seed() -> None:
    """Nobody twice; the same seed gives the same, whatever the order of the names."""
    first = sample_uniformly(CLIENTS, 3, np.random.default_rng(1))
    assert len(set(first)) == 3
    assert first == sample_uniformly(CLIENTS[::-1], 3, np.random.default_rng(1))
    assert sample_uniformly(CLIENTS, 4, np.random.default_rng(2)) == CLIENTS


def test_frequencies_are_as_promised() -> None:
    """Over 4000 draws of one: a quarter each, or in proportion to the examples; five standard deviations apart at most."""
    rng, counts = np.random.default_rng(3), {"a": 1, "b": 2, "c": 3, "d": 4}
    uniform = [sample_uniformly(CLIENTS, 1, rng)[0] for _ in range(4000)]
    weighted = [sample_by_examples(counts, 1, rng)[0] for _ in range(4000)]
    for name in CLIENTS:
        assert uniform.count(name) / 4000 == pytest.approx(0.25, abs=0.035)
        assert weighted.count(name) / 4000 == pytest.approx(counts[name] / 10, abs=0.04)


def test_clients_without_examples_are_never_drawn_by_examples() -> None:
    """They could not contribute."""
    assert sample_by_examples({"a": 0, "b": 1}, 1, np.random.default_rng(0)) == ("b",)
    with pytest.raises(InvalidInput, match=r"in 1\.\.1"):
        sample_by_examples({"a": 0, "b": 1}, 2, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match=r"in 1\.\.4"):
        sample_uniformly(CLIENTS, 0, np.random.default_rng(0))
