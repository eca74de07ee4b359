"""Every example has one client at most, and clients are as equal or skewed as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidConfig
from runtime.models.examples import Examples
from runtime.training.data.partition import Partition, by_subject, dirichlet, examples_of, iid

LABELS = np.repeat(np.arange(10), 60)


def check_whole(partition: Partition, labels: np.ndarray) -> None:
    """All examples, each once, and histograms that count them."""
    np.testing.assert_array_equal(np.sort(np.concatenate(partition.indices)), np.arange(labels.size))
    assert partition.histograms.sum() == labels.size
    for index, histogram in zip(partition.indices, partition.histograms, strict=True):
        np.testing.assert_array_equal(np.bincount(labels[index], minlength=histogram.size), histogram)


@settings(max_examples=40)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    clients=st.integers(1, 80),
    alpha=st.floats(1e-3, 1e3),
    seed=st.integers(0, 999),
)
def test_nothing_is_lost_or_given_twice(labels: list[int], clients: int, alpha: float, seed: int) -> None:
    """Both random partitions give everything away, in parts that differ by one at most."""
    array, clients = np.array(labels), min(clients, len(labels))
    for partition in (iid(array, clients, np.random.default_rng(seed)), dirichlet(array, clients, alpha, np.random.default_rng(seed))):
        check_whole(partition, array)
        sizes = [index.size for index in partition.indices]
        assert max(sizes) - min(sizes) <= 1


def test_alpha_orders_the_skew() -> None:
    """The largest class of a client is nearly all at 0.01, about a tenth at 1000."""
    shares = [dirichlet(LABELS, 10, alpha, np.random.default_rng(0)).histograms.max(axis=1).mean() / 60 for alpha in (0.01, 1.0, 1000.0)]
    assert shares[0] > 0.8
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] < 0.3


def test_the_same_seed_gives_the_same_partition() -> None:
    """So that all nodes agree without talking."""
    first, again = (dirichlet(LABELS, 7, 0.5, np.random.default_rng(4)) for _ in range(2))
    for one, other in zip(first.indices, again.indices, strict=True):
        np.testing.assert_array_equal(one, other)


def test_by_subject_by_hand() -> None:
    """Persons 3 and 7 with their own examples."""
    partition = by_subject(np.array([0, 1, 2, 1]), np.array([7, 3, 7, 3]))
    assert [index.tolist() for index in partition.indices] == [[1, 3], [0, 2]]
    assert partition.histograms.tolist() == [[0, 2, 0], [1, 0, 1]]
    examples = Examples(images=np.arange(4), labels=np.array([0, 1, 2, 1]))
    assert examples_of(examples, partition, 1).images.tolist() == [0, 2]


@pytest.mark.parametrize(("clients", "alpha"), [(0, 1.0), (601, 1.0), (3, 0.0), (3, float("inf")), (3, float("nan"))])
def test_impossible_partitions_are_refused(clients: int, alpha: float) -> None:
    """Nobody without examples, no alpha that is none."""
    with pytest.raises(InvalidConfig):
        dirichlet(LABELS, clients, alpha, np.random.default_rng(0))
