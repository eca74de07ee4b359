"""The examples of a model that live systems, profiles and simulators share: evenly spread over a split, not too many.

All of them draw from the same ones, so that a request brings the same picture everywhere.  A profile runs each of them from every
cut in every codec: with ten thousand that would take hours and gigabytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runtime.errors import UnknownModel
from runtime.models.examples import Examples, Judgement, has_labels, load_examples, load_judgement

MAX_PLAYED = 1000
"""A standard error of an accuracy of 90 % below one point; forms of a model are compared on the same examples."""


def load_played(directory: Path, split: str) -> Examples:
    """At most MAX_PLAYED examples of a split.  Raises UnknownModel like `load_examples`."""
    every = load_examples(directory, split)
    chosen = played_index(len(every.labels))
    return Examples(images=every.images[chosen], labels=every.labels[chosen])


def load_played_judgement(directory: Path, split: str, variant: str) -> Judgement:
    """What the variant's exits make of them.  Raises UnknownModel like `load_examples`, and for a model without data."""
    if not has_labels(directory, split):
        raise UnknownModel(
            f"the model in {directory.name} was built as it is, without data: nothing tells its right answers from its wrong ones."
            "  Train it on yours, `drlctl models build ARCHITECTURE --data FOLDER --name NAME`, and name that model in the scenario"
        )
    every = load_judgement(directory, split, variant)
    chosen = played_index(every.correct.shape[1])
    return Judgement(correct=every.correct[:, chosen], entropies=every.entropies[:, chosen])


def played_index(count: int) -> np.ndarray:
    """int64 [min(count, MAX_PLAYED)], rising, the first and the last included: data that are sorted by class stay balanced."""
    return np.linspace(0, count - 1, min(count, MAX_PLAYED)).round().astype(np.int64)
