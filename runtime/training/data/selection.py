"""Fewer examples than there are: a task with some of the classes, the root's own part, clients with little data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.errors import InvalidConfig
from runtime.models.examples import Examples
from runtime.training.data.partition import Partition


def choose_classes(examples: Examples, numbers: Sequence[int]) -> tuple[Examples, np.ndarray]:
    """Examples whose labels are among `numbers`, labelled anew 0, 1, ... in that order; and which they are, bool [N]."""
    chosen = np.isin(examples.labels, numbers)
    order = np.argsort(numbers)
    labels = order[np.searchsorted(np.asarray(numbers)[order], examples.labels[chosen])].astype(np.int64)
    return Examples(images=examples.images[chosen], labels=labels), chosen


def class_numbers(classes: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Indices of the wanted classes.  Raises InvalidConfig naming those there are."""
    unknown = [name for name in wanted if name not in classes]
    if unknown:
        raise InvalidConfig(f"the data have no class {unknown[0]!r}; there is {', '.join(classes)}")
    return [classes.index(name) for name in wanted]


def draw_root_part(num_examples: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """bool [N]: the root's own examples, drawn at random; none for a fraction of 0."""
    part = np.zeros(num_examples, dtype=bool)
    part[rng.permutation(num_examples)[: round(fraction * num_examples)]] = True
    return part


def limit_clients(partition: Partition, labels: np.ndarray, limit: int, rng: np.random.Generator) -> Partition:
    """At most `limit` examples for each client, drawn at random from its own.  Labels are int64 [N]."""
    indices = tuple(np.sort(rng.permutation(own)[:limit]) for own in partition.indices)
    num_classes = partition.histograms.shape[1]
    return Partition(indices=indices, histograms=np.stack([np.bincount(labels[own], minlength=num_classes) for own in indices]))
