"""The examples file: round trip, and what a reader is told when it is not good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import UnknownModel
from runtime.models.examples import EXAMPLES_NAME, Examples, Judgement, load_examples, load_judgement, save_examples


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two test examples, one of which the only exit gets right."""
    part = Examples(images=np.arange(32, dtype=np.uint8).reshape(2, 1, 1, 4, 4), labels=np.array([3, 7]))
    judgement = Judgement(correct=np.array([[1, 0]], dtype=np.uint8), entropies=np.array([[0.25, 0.75]]))
    save_examples(tmp_path, {"test": part}, {"test": {"fp32": judgement}})
    return tmp_path


def test_round_trip(directory: Path) -> None:
    """What was saved is loaded, dtypes included."""
    examples = load_examples(directory, "test")
    np.testing.assert_array_equal(examples.images, np.arange(32, dtype=np.uint8).reshape(2, 1, 1, 4, 4))
    assert examples.images.dtype == np.uint8
    assert examples.labels.tolist() == [3, 7]
    judgement = load_judgement(directory, "test", "fp32")
    assert judgement.correct.tolist() == [[1, 0]]
    assert judgement.entropies.tolist() == [[0.25, 0.75]]


def test_unknown_split_and_variant_are_named(directory: Path) -> None:
    """A split or variant that is not in the file is an error that says so."""
    with pytest.raises(UnknownModel, match="validation_images"):
        load_examples(directory, "validation")
    with pytest.raises(UnknownModel, match="correct_test_int8"):
        load_judgement(directory, "test", "int8")


def test_corrupt_file_is_refused(directory: Path, tmp_path: Path) -> None:
    """A cut-off, empty or missing file is one typed error."""
    path = directory / EXAMPLES_NAME
    data = path.read_bytes()
    swapped = bytearray(data)
    swapped[60:90] = swapped[60:90][::-1]
    for content in (data[: len(data) // 2], b"", b"not a zip", bytes(swapped)):
        path.write_bytes(content)
        with pytest.raises(UnknownModel, match="cannot read"):
            load_examples(directory, "test")
    path.unlink()
    with pytest.raises(UnknownModel, match="cannot read"):
        load_examples(directory, "test")


def test_object_arrays_are_never_unpickled(directory: Path) -> None:
    """A file with a pickled array inside is refused, not executed."""
    with (directory / EXAMPLES_NAME).open("wb") as file:
        np.savez(file, test_images=np.array([{"a": 1}], dtype=object), test_labels=np.zeros(1))
    with pytest.raises(UnknownModel, match="cannot read"):
        load_examples(directory, "test")
