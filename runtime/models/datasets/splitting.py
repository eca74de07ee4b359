"""Seeded, stratified splits: every class has the same share in each."""

from __future__ import annotations

import msgspec
import numpy as np
from sklearn.model_selection import train_test_split

from runtime.errors import InvalidDataset
from runtime.models.examples import Examples

MIN_SHARE, MAX_SHARE = 0.0, 0.9


class SplitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How what is found is divided; an official validation or test part is taken as it is."""

    validation_fraction: float = 0.1
    """Share of the training pictures that is set aside for validation."""
    test_fraction: float = 0.2
    """Share of all pictures that becomes the test part where there is no official one."""
    seed: int = 0

    def __post_init__(self) -> None:
        for share in (self.validation_fraction, self.test_fraction):
            if not MIN_SHARE < share < MAX_SHARE:
                raise InvalidDataset(f"split fractions must lie between {MIN_SHARE} and {MAX_SHARE}, got {share}")


def complete_splits(parts: dict[str, Examples], spec: SplitSpec) -> dict[str, Examples]:
    """Parts found, "train" and perhaps "validation" and "test" -> all three; the missing ones are cut from "train".

    A part that lies there class by class is mixed: whoever takes the first examples means examples of every class.
    Raises InvalidDataset when a class has too few pictures to be in every split.
    """
    rest = parts["train"]
    if "test" not in parts:
        rest, test = take(rest, round(len(rest.labels) * spec.test_fraction), spec.seed)
        parts = {**parts, "test": test}
    if "validation" not in parts:
        rest, validation = take(rest, round(len(rest.labels) * spec.validation_fraction), spec.seed)
        parts = {**parts, "validation": validation}
    whole = {"train": rest, "validation": parts["validation"], "test": parts["test"]}
    return {name: _mixed(part, spec.seed) for name, part in whole.items()}


def take(examples: Examples, count: int, seed: int) -> tuple[Examples, Examples]:
    """(all but `count` examples, `count` of them), disjoint and stratified.  Raises InvalidDataset where that cannot be."""
    everything, labels = np.arange(len(examples.labels)), examples.labels
    try:
        rest, taken = train_test_split(everything, test_size=count, stratify=labels, random_state=seed)
    except ValueError as exc:
        raise InvalidDataset(f"cannot set {count} of {len(labels)} pictures aside with every class in both parts: {exc}") from exc
    return _pick(examples, rest), _pick(examples, taken)


def _mixed(examples: Examples, seed: int) -> Examples:
    """In a random order where labels never fall; else as they are."""
    if np.any(np.diff(examples.labels) < 0):
        return examples
    return _pick(examples, np.random.default_rng(seed).permutation(len(examples.labels)))


def _pick(examples: Examples, index: np.ndarray) -> Examples:
    return Examples(images=examples.images[index], labels=examples.labels[index])
