"""Folders of frames, and folders that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.video.frames import MIN_FRAMES, load_frames
from runtime.errors import InvalidDataset


def save_frames(folder: Path, num_frames: int, size: tuple[int, int] = (40, 36)) -> None:
    for number in range(1, num_frames + 1):
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"{number}.png")


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """2 before 10; sides are cut to whole cells, and other files are left alone."""
    save_frames(tmp_path, MIN_FRAMES)
    (tmp_path / "notes.txt").write_text("no frame")
    frames = load_frames(tmp_path, 16)
    assert frames.shape == (MIN_FRAMES, 32, 32, 3)
    assert frames[:, 0, 0, 0].tolist() == list(range(1, MIN_FRAMES + 1))


def test_too_few_frames_are_refused(tmp_path: Path) -> None:
    """Also a folder that is not there."""
    save_frames(tmp_path, MIN_FRAMES - 1)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InvalidDataset, match=f"at least {MIN_FRAMES}"):
            load_frames(folder, 16)


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    """The message names both."""
    save_frames(tmp_path, MIN_FRAMES)
    Image.fromarray(np.zeros((36, 41, 3), np.uint8)).save(tmp_path / "9.png")
    with pytest.raises(InvalidDataset, match=r"9\.png is 41x36, 1\.png is 40x36"):
        load_frames(tmp_path, 16)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    """Whatever is in it, one typed error."""
    save_frames(tmp_path, MIN_FRAMES)
    (tmp_path / "4.png").write_bytes(content)
    with pytest.raises(InvalidDataset, match=r"4\.png"):
        load_frames(tmp_path, 16)


def test_frames_of_one_cell_are_refused(tmp_path: Path) -> None:
    """Teaching moves the picture by up to a cell."""
    save_frames(tmp_path, MIN_FRAMES, size=(40, 20))
    with pytest.raises(InvalidDataset, match="at least two cells"):
        load_frames(tmp_path, 16)


def test_deep_frames_are_not_clipped(tmp_path: Path) -> None:
    """Of 16 bits the high byte counts."""
    for number in range(MIN_FRAMES):
        Image.fromarray(np.full((36, 40), 1000 * number, dtype=np.uint16)).save(tmp_path / f"{number}.png")
    frames = load_frames(tmp_path, 16)
    assert frames[:, 0, 0].tolist() == [[1000 * number // 256] * 3 for number in range(MIN_FRAMES)]
