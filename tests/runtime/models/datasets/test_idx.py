"""IDX files: read as written, packed or not; whatever else is in them is one error."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runtime.errors import InvalidDataset
from runtime.models.datasets import idx
from tests.runtime.models.datasets.writers import idx_bytes, write_idx

IMAGES = np.arange(4 * 3 * 5, dtype=np.uint8).reshape(4, 3, 5)
LABELS = np.array([0, 2, 1, 2])


def parse(data: bytes, num_dims: int) -> np.ndarray:
    """Parse bytes as a file of just that size."""
    return idx.parse_idx(io.BytesIO(data), num_dims, "file", len(data))


@pytest.mark.parametrize("packed", [False, True])
def test_both_parts_are_read(tmp_path: Path, packed: bool) -> None:
    """Pictures become [N, 1, 1, H, W], labels int64, and classes are the labels' numbers."""
    write_idx(tmp_path, "train", IMAGES, LABELS, packed=packed)
    write_idx(tmp_path, "t10k", IMAGES[:1], LABELS[:1], packed=packed)
    found = idx.load(tmp_path)
    assert found.classes == ("0", "1", "2")
    np.testing.assert_array_equal(found.parts["train"].images, IMAGES[:, None, None])
    np.testing.assert_array_equal(found.parts["train"].labels, LABELS)
    assert found.parts["train"].labels.dtype == np.int64
    assert found.parts["test"].images.shape == (1, 1, 1, 3, 5)
    assert found.parts["train"].images.flags.writeable


def test_dotted_names_are_read_too(tmp_path: Path) -> None:
    """Some copies of MNIST write a dot for the second hyphen."""
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx_bytes(IMAGES))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx_bytes(LABELS))
    assert idx.matches(tmp_path)
    assert list(idx.load(tmp_path).parts) == ["train"]


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)))
def test_round_trip(values: np.ndarray) -> None:
    """Any array of bytes is read as it was written."""
    np.testing.assert_array_equal(parse(idx_bytes(values), values.ndim), values)


@given(st.binary(max_size=64), st.integers(1, 3))
def test_any_bytes_are_an_array_or_one_error(data: bytes, num_dims: int) -> None:
    """Garbage never raises anything else."""
    try:
        assert parse(data, num_dims).ndim == num_dims
    except InvalidDataset:
        pass


@given(st.data())
def test_every_truncation_and_every_extra_byte_is_refused(data: st.DataObject) -> None:
    """A file that is not exactly as long as its header says is not read."""
    whole = idx_bytes(IMAGES)
    with pytest.raises(InvalidDataset, match=r"not an IDX file|more than the file|fewer"):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))], 3)
    with pytest.raises(InvalidDataset, match="more bytes follow"):
        parse(whole + data.draw(st.binary(min_size=1, max_size=9)), 3)


@pytest.mark.parametrize("packed", [False, True])
def test_absurd_headers_are_refused_before_anything_is_allocated(tmp_path: Path, packed: bool) -> None:
    """A header that claims more than the limit, or than the file can hold, is refused by its numbers alone."""
    for shape, message in (((2**32 - 1,) * 3, "at most"), ((2**10, 2**10, 2**9), "more than the file can hold")):
        file = tmp_path / ("images.gz" if packed else "images")
        header = bytes((0, 0, 8, 3)) + struct.pack(">3I", *shape)
        file.write_bytes(gzip.compress(header) if packed else header)
        with pytest.raises(InvalidDataset, match=message):
            idx.read_idx(file, 3)


def test_wrong_magic_is_shown(tmp_path: Path) -> None:
    """A type or a number of dimensions that is not expected is told, with what was."""
    file = tmp_path / "labels"
    file.write_bytes(idx_bytes(LABELS))
    with pytest.raises(InvalidDataset, match="begins with 00000801, not 00000803"):
        idx.read_idx(file, 3)


def test_broken_archives_are_refused(tmp_path: Path) -> None:
    """A cut-off or corrupt archive, and one that is none, end in the same error as a missing file."""
    file = tmp_path / "images.gz"
    packed = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (9, 9, 9))))
    swapped = bytearray(packed)
    swapped[40:60] = swapped[40:60][::-1]
    for data in (packed[:-9], packed[:30], bytes(swapped), b"not an archive"):
        file.write_bytes(data)
        with pytest.raises(InvalidDataset):
            idx.read_idx(file, 3)
    with pytest.raises(InvalidDataset, match="cannot read"):
        idx.read_idx(tmp_path / "absent", 3)


def test_pictures_without_labels_are_refused(tmp_path: Path) -> None:
    """Both files of a part are needed, and as many labels as pictures."""
    write_idx(tmp_path, "train", IMAGES, LABELS)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(InvalidDataset, match="both are needed"):
        idx.load(tmp_path)
    write_idx(tmp_path, "train", IMAGES, LABELS[:3])
    with pytest.raises(InvalidDataset, match="4 pictures and 3 labels"):
        idx.load(tmp_path)
