"""Who has which examples: equally at random, skewed by label, or by the person who made them.

Pictures come from runtime/models/datasets, sensor windows from `sensors`; a partition needs their labels or subjects only.
"""

from __future__ import annotations

import msgspec
import numpy as np

from runtime.errors import InvalidConfig
from runtime.models.examples import Examples


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """Disjoint examples of each client."""

    indices: tuple[np.ndarray, ...]
    """int64 [N_i] of each client, rising."""
    histograms: np.ndarray
    """int64 [clients, classes]: how many examples of each class a client has."""


def iid(labels: np.ndarray, num_clients: int, rng: np.random.Generator) -> Partition:
    """Shuffled and dealt out in parts that differ by one at most.

    Raises InvalidConfig for fewer examples than clients.  Source: McMahan et al., AISTATS 2017 (arXiv:1602.05629), section 3.
    """
    _check_clients(labels, num_clients)
    return _of(labels, list(np.array_split(rng.permutation(labels.size), num_clients)))


def dirichlet(labels: np.ndarray, num_clients: int, alpha: float, rng: np.random.Generator) -> Partition:
    """Equal parts, each with class shares q ~ Dirichlet(alpha p), p being the shares of all labels [N].

    A large alpha is iid, a small one leaves a client with one class.  A class that has run out leaves the others' shares
    scaled up, so clients late in the order get less of what they drew.  Raises InvalidConfig like `iid`, and for alpha <= 0.
    Source: Hsu, Qi, Brown, arXiv:1909.06335, section 3.1.
    """
    _check_clients(labels, num_clients)
    if not 0 < alpha < np.inf:
        raise InvalidConfig(f"a Dirichlet partition needs a finite alpha > 0, got {alpha}; use iid for equal shares")
    pools = [rng.permutation(np.flatnonzero(labels == label)) for label in range(int(labels.max()) + 1)]
    left = np.array([pool.size for pool in pools])
    parts = []
    quotas = [part.size for part in np.array_split(labels, num_clients)]
    shares = np.zeros((num_clients, left.size))
    shares[:, left > 0] = rng.dirichlet(alpha * left[left > 0] / left.sum(), num_clients)
    for quota, share in zip(quotas, shares, strict=True):
        counts = _draw_counts(quota, share, left, rng)
        parts.append(np.concatenate([pool[rest - count : rest] for pool, rest, count in zip(pools, left, counts, strict=True)]))
        left = left - counts
    return _of(labels, parts)


def by_subject(labels: np.ndarray, subjects: np.ndarray) -> Partition:
    """One client for each person, in the order of their numbers; labels and subjects are [N].  Raises InvalidConfig."""
    if labels.shape != subjects.shape or not labels.size:
        raise InvalidConfig(f"each example has a label and a subject, got {labels.shape} and {subjects.shape}")
    return _of(labels, [np.flatnonzero(subjects == subject) for subject in np.unique(subjects)])


def examples_of(examples: Examples, partition: Partition, client: int) -> Examples:
    """What one client has."""
    index = partition.indices[client]
    return Examples(images=examples.images[index], labels=examples.labels[index])


def _draw_counts(quota: int, share: np.ndarray, left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How many of each class: `quota` draws by share [C], without replacement from `left` [C]."""
    counts = np.zeros_like(left)
    while counts.sum() < quota:  # every round but the last exhausts a class
        weights = np.where(counts < left, share, 0.0)
        if not weights.sum() > 0:
            weights = (left - counts).astype(np.float64)
        drawn = rng.multinomial(quota - counts.sum(), weights / weights.sum())
        counts = np.minimum(counts + drawn, left)
    return counts


def _of(labels: np.ndarray, parts: list[np.ndarray]) -> Partition:
    num_classes = int(labels.max()) + 1
    indices = tuple(np.sort(part) for part in parts)
    return Partition(indices=indices, histograms=np.stack([np.bincount(labels[part], minlength=num_classes) for part in indices]))


def _check_clients(labels: np.ndarray, num_clients: int) -> None:
    if not 1 <= num_clients <= labels.size:
        raise InvalidConfig(f"{labels.size} examples cannot be divided among {num_clients} clients; give each at least one")
