"""From a name or a path to splits: the form is found, official parts stay, the rest is divided fairly."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidDataset
from runtime.models.datasets import FORMS, detect, load_dataset
from runtime.models.datasets.splitting import SplitSpec, complete_splits
from runtime.models.examples import Examples
from tests.runtime.models.datasets.writers import write_cifar, write_idx, write_picture


def numbered(labels: np.ndarray) -> Examples:
    """Pictures that differ: each holds its own number."""
    numbers = np.arange(len(labels))
    values = np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8)
    return Examples(images=values[:, None, None, None, :], labels=labels)


def numbers(examples: Examples) -> list[int]:
    """Invert `numbered`."""
    values = examples.images.reshape(len(examples.labels), 2).astype(int)
    return (values[:, 0] * 256 + values[:, 1]).tolist()


@settings(max_examples=40)
@given(st.integers(2, 5), st.integers(20, 60), st.integers(0, 2**32 - 1))
def test_splits_are_disjoint_whole_and_stratified(num_classes: int, each: int, seed: int) -> None:
    """Every picture is in one split, and every class has its share of each to within one picture."""
    labels = np.repeat(np.arange(num_classes), each)
    splits = complete_splits({"train": numbered(labels)}, SplitSpec(seed=seed))
    assert sorted(number for part in splits.values() for number in numbers(part)) == list(range(len(labels)))
    for part in splits.values():
        counts = np.bincount(part.labels, minlength=num_classes)
        assert counts.max() - counts.min() <= 1
        assert all(label == labels[number] for label, number in zip(part.labels, numbers(part), strict=True))


def test_seed_decides() -> None:
    """The same seed gives the same splits, another one others."""
    parts = {"train": numbered(np.repeat([0, 1, 2], 30))}
    first, again, other = (numbers(complete_splits(parts, SplitSpec(seed=seed))["test"]) for seed in (1, 1, 2))
    assert first == again
    assert sorted(first) != sorted(other)


def test_official_parts_stay_as_they_are() -> None:
    """What is there already is not touched, and what is missing comes from the training part alone."""
    official = numbered(np.array([0, 1, 0]))
    splits = complete_splits({"train": numbered(np.repeat([0, 1], 50)), "test": official}, SplitSpec(validation_fraction=0.2))
    assert splits["test"] is official
    assert len(splits["validation"].labels) == 20
    assert len(splits["train"].labels) == 80


def test_official_parts_are_mixed_where_they_lie_class_by_class() -> None:
    """The first examples of a part are of every class; none is lost, and the seed decides."""
    listed = numbered(np.repeat([0, 1, 2], 40))
    parts = {"train": listed, "validation": listed, "test": listed}
    splits = complete_splits(parts, SplitSpec())
    for part in splits.values():
        assert set(part.labels[:20].tolist()) == {0, 1, 2}
        assert sorted(numbers(part)) == numbers(listed)
        np.testing.assert_array_equal(part.labels, listed.labels[numbers(part)])
    assert numbers(complete_splits(parts, SplitSpec())["test"]) == numbers(splits["test"])
    assert numbers(complete_splits(parts, SplitSpec(seed=1))["test"]) != numbers(splits["test"])


def test_a_class_of_one_cannot_be_split() -> None:
    """A class too small to be in every split is an error."""
    with pytest.raises(InvalidDataset, match="every class"):
        complete_splits({"train": numbered(np.array([0] * 30 + [1]))}, SplitSpec())


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    """A split of nothing, of everything, or of no number."""
    with pytest.raises(InvalidDataset, match="fractions"):
        SplitSpec(validation_fraction=share)


def test_form_is_found(tmp_path: Path) -> None:
    """Each form is recognised by its files and read by its own loader; none and two are errors."""
    labels = np.repeat(np.arange(2), 20)
    images = np.zeros((40, 3, 32, 32), dtype=np.uint8)
    for name in FORMS:
        (tmp_path / name).mkdir()
    write_cifar(tmp_path / "cifar" / "data_batch_1.bin", images, labels.tolist())
    write_idx(tmp_path / "idx", "train", images[:, 0], labels)
    for number, label in enumerate(labels):
        write_picture(tmp_path / "folder" / str(label) / f"{number}.png", images[0, 0])
    for name in FORMS:
        assert detect(tmp_path / name) == name
        dataset = load_dataset(tmp_path / name)
        assert [len(dataset.splits[split].labels) for split in ("train", "validation", "test")] == [29, 3, 8]
    with pytest.raises(InvalidDataset, match="no data set of the forms cifar, folder, idx"):
        detect(tmp_path)
    write_idx(tmp_path / "cifar", "train", images[:, 0], labels)
    with pytest.raises(InvalidDataset, match=r"more than one data set \(cifar, idx\)"):
        detect(tmp_path / "cifar")


def test_digits_are_built_in() -> None:
    """The digits need no path; what is neither built in nor a directory is refused with what there is."""
    dataset = load_dataset("digits", SplitSpec(seed=3))
    assert dataset.classes == tuple("0123456789")
    assert {split: len(part.labels) for split, part in dataset.splits.items()} == {"train": 1100, "validation": 337, "test": 360}
    with pytest.raises(InvalidDataset, match="neither a directory nor one of digits"):
        load_dataset("no/such/place")


@pytest.mark.slow
def test_fashion_mnist_as_published() -> None:
    """The four files as they are: 60,000 pictures of which a tenth validates, the official 10,000 to test."""
    if "DRLCTL_DATA" not in os.environ:
        pytest.skip("DRLCTL_DATA does not say where images/fashion_mnist is")
    dataset = load_dataset(Path(os.environ["DRLCTL_DATA"]) / "images" / "fashion_mnist")
    assert {split: part.images.shape for split, part in dataset.splits.items()} == {
        "train": (54000, 1, 1, 28, 28),
        "validation": (6000, 1, 1, 28, 28),
        "test": (10000, 1, 1, 28, 28),
    }
    assert np.bincount(dataset.splits["test"].labels).tolist() == [1000] * 10
    assert dataset.splits["test"].labels[:5].tolist() == [9, 2, 1, 1, 6]
