"""CIFAR's binary batches: records in order, classes by name, no half records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidDataset
from runtime.models.datasets import cifar
from tests.runtime.models.datasets.writers import write_cifar

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32)).astype(np.uint8)


def test_batches_are_joined_in_order(tmp_path: Path) -> None:
    """Training batches follow one another, the test batch is a part of its own."""
    write_cifar(tmp_path / "data_batch_2.bin", IMAGES[2:4], [1, 0])
    write_cifar(tmp_path / "data_batch_1.bin", IMAGES[:2], [0, 1])
    write_cifar(tmp_path / "test_batch.bin", IMAGES[4:], [1])
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n\n")
    found = cifar.load(tmp_path)
    assert found.classes == ("cat", "dog")
    np.testing.assert_array_equal(found.parts["train"].images, IMAGES[:4, None])
    assert found.parts["train"].labels.tolist() == [0, 1, 1, 0]
    np.testing.assert_array_equal(found.parts["test"].images, IMAGES[4:, None])


def test_without_names_there_are_ten_classes(tmp_path: Path) -> None:
    """The classes of CIFAR-10 are numbered where no file names them."""
    write_cifar(tmp_path / "data_batch_1.bin", IMAGES, [0, 1, 2, 3, 9])
    assert cifar.load(tmp_path).classes == tuple("0123456789")


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    """A label that no class has is an error that says how many there are."""
    write_cifar(tmp_path / "data_batch_1.bin", IMAGES, [0, 1, 2, 3, 10])
    with pytest.raises(InvalidDataset, match=r"labels 0\.\.10; 10 classes"):
        cifar.load(tmp_path)


@given(st.integers(0, 2), st.integers(0, cifar.RECORD_BYTES - 1))
def test_only_whole_records_are_read(num_records: int, extra: int) -> None:
    """Any size that is not a positive number of records is refused."""
    data = bytes(num_records * cifar.RECORD_BYTES + extra)
    if num_records and not extra:
        assert cifar.parse_records(data, "file").images.shape == (num_records, 1, 3, 32, 32)
    else:
        with pytest.raises(InvalidDataset, match="whole number of records"):
            cifar.parse_records(data, "file")


def test_files_that_cannot_be_read_are_one_error(tmp_path: Path) -> None:
    """A folder in a batch's place, names that are not text, no batches at all."""
    with pytest.raises(InvalidDataset, match="has no data_batch"):
        cifar.load(tmp_path)
    write_cifar(tmp_path / "data_batch_1.bin", IMAGES, [0] * 5)
    (tmp_path / "batches.meta.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidDataset, match="class names"):
        cifar.load(tmp_path)
    (tmp_path / "data_batch_2.bin").mkdir()
    with pytest.raises(InvalidDataset, match="cannot read the batches"):
        cifar.load(tmp_path)
