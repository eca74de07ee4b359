"""Folders of pictures: classes by subfolder, one size, grey or colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runtime.errors import InvalidDataset
from runtime.models.datasets import folder
from tests.runtime.models.datasets.writers import write_picture

GREY = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)
COLOUR = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)


def test_grey_pictures_keep_one_channel(tmp_path: Path) -> None:
    """Subfolders in sorted order are the classes, pictures are [1, H, W]; other files do not count."""
    write_picture(tmp_path / "dog" / "1.png", GREY)
    write_picture(tmp_path / "cat" / "1.PNG", GREY + 1)
    write_picture(tmp_path / "cat" / "2.bmp", GREY + 2)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    found = folder.load(tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.parts["train"].labels.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(found.parts["train"].images[:, 0, 0], np.stack([GREY + 1, GREY + 2, GREY]))


def test_one_coloured_picture_makes_all_coloured(tmp_path: Path) -> None:
    """Channels come first; a grey picture has the same value in all three."""
    write_picture(tmp_path / "a" / "1.png", COLOUR)
    write_picture(tmp_path / "b" / "1.png", GREY)
    images = folder.load(tmp_path).parts["train"].images
    np.testing.assert_array_equal(images[0, 0], COLOUR.transpose(2, 0, 1))
    np.testing.assert_array_equal(images[1, 0], np.stack([GREY] * 3))


def test_of_sixteen_bits_the_high_byte_counts(tmp_path: Path) -> None:
    """Deep grey pictures, as scientific cameras write them, are grey and not clipped."""
    deep = (GREY.astype(np.uint16) << 8) + 77
    write_picture(tmp_path / "b" / "1.png", GREY)
    (tmp_path / "a").mkdir()
    for name in ("1.png", "2.pgm"):
        Image.fromarray(deep).save(tmp_path / "a" / name)
    images = folder.load(tmp_path).parts["train"].images
    np.testing.assert_array_equal(images[:, 0], np.stack([GREY] * 3)[:, None])


def test_official_parts_are_respected(tmp_path: Path) -> None:
    """Folders named train, val and test are parts; a class may be absent from the later ones."""
    for name in ("train/a/1.png", "train/b/1.png", "val/a/1.png", "test/b/1.png", "test/b/2.png"):
        write_picture(tmp_path / name, GREY)
    found = folder.load(tmp_path)
    assert {part: examples.labels.tolist() for part, examples in found.parts.items()} == {
        "train": [0, 1],
        "validation": [0],
        "test": [1, 1],
    }


def test_mixed_sizes_name_two_offenders(tmp_path: Path) -> None:
    """Pictures of different sizes are refused, with two of them."""
    write_picture(tmp_path / "a" / "1.png", GREY)
    write_picture(tmp_path / "b" / "1.png", GREY.T)
    with pytest.raises(InvalidDataset, match=r"a/1\.png is 4x6 and .*b/1\.png 6x4"):
        folder.load(tmp_path)


def test_new_classes_outside_training_are_refused(tmp_path: Path) -> None:
    """What was never trained cannot be tested."""
    for name in ("train/a/1.png", "train/b/1.png", "test/c/1.png"):
        write_picture(tmp_path / name, GREY)
    with pytest.raises(InvalidDataset, match="classes c "):
        folder.load(tmp_path)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    """A folder of one class has nothing to tell apart."""
    write_picture(tmp_path / "a" / "1.png", GREY)
    assert not folder.matches(tmp_path)
    with pytest.raises(InvalidDataset, match="at least 2"):
        folder.load(tmp_path)


def test_huge_pictures_are_refused_by_their_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More pixels than Pillow's limit is the same error, before they are decoded."""
    write_picture(tmp_path / "a" / "1.png", GREY)
    write_picture(tmp_path / "b" / "1.png", GREY)
    for limit in (23, 11):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InvalidDataset, match="not a picture"):
            folder.load(tmp_path)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, one of which the test below damages."""
    path = tmp_path_factory.mktemp("pair")
    for name in ("a/1.png", "b/1.png"):
        write_picture(path / name, COLOUR)
    return path


@given(st.data())
def test_damaged_pictures_are_one_error(pair: Path, data: st.DataObject) -> None:
    """Cut off or changed anywhere, a picture is read or refused; nothing else is raised."""
    whole = (pair / "b" / "1.png").read_bytes()
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for index in data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=3)):
        if damaged:
            damaged[index] ^= data.draw(st.integers(1, 255))
    (pair / "a" / "1.png").write_bytes(damaged)
    try:
        assert folder.load(pair).parts["train"].images.shape == (2, 1, 3, 6, 4)
    except InvalidDataset:
        pass
