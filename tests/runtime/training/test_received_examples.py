"""Uploaded examples are kept without gaps, and only those of the job's form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidTensor
from runtime.models.examples import Examples
from runtime.training.protocol.central_tasks import Held
from runtime.training.received_examples import ReceivedExamples

IMAGES = np.arange(10 * 4, dtype=np.uint8).reshape(10, 1, 1, 2, 2)
LABELS = np.arange(10, dtype=np.int64) % 3


def piece(first: int, stop: int) -> Examples:
    """Some consecutive ones of ten."""
    return Examples(images=IMAGES[first:stop], labels=LABELS[first:stop])


def empty(folder: Path | None = None) -> ReceivedExamples:
    """Of three classes, 2 x 2 pixels."""
    return ReceivedExamples(piece(0, 1), 3, folder)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10)), max_size=30))
def test_whatever_the_order_there_is_no_gap_and_nothing_twice(offered: list[tuple[int, int]]) -> None:
    """Pieces in any order, overlapping and repeated: what is held is always the first so many, and counted once."""
    received, num_bytes = empty(), 0
    for first, size in offered:
        num_bytes += received.add("a", first, 10, piece(first, min(10, first + size)))
    held = received.held("a").num
    assert num_bytes == held * (4 + 8)
    if held:
        np.testing.assert_array_equal(received.joined(("a",)).images, IMAGES[:held])


def test_a_folder_remembers(tmp_path: Path) -> None:
    """Whole pieces are there again, from the first that is torn on there is nothing; odd names stay in the folder."""
    received = empty(tmp_path)
    for first, stop in [(0, 4), (4, 8), (8, 10)]:
        received.add("../a", first, 10, piece(first, stop))
    assert empty(tmp_path).all_held() == {"../a": Held(num=10, total=10)}
    (torn,) = tmp_path.glob("*/4.*")
    torn.write_bytes(torn.read_bytes()[:-5])
    again = empty(tmp_path)
    assert again.held("../a") == Held(num=4, total=10)
    np.testing.assert_array_equal(again.joined(("../a",)).labels, LABELS[:4])


def test_another_number_of_examples_is_another_client(tmp_path: Path) -> None:
    """The old ones are dropped, on disk too."""
    received = empty(tmp_path)
    received.add("a", 0, 10, piece(0, 4))
    received.add("a", 0, 6, piece(0, 2))
    assert received.held("a") == Held(num=2, total=6)
    assert empty(tmp_path).held("a") == Held(num=2, total=6)


@pytest.mark.parametrize(
    ("images", "labels", "first"),
    [
        (IMAGES[:2].astype(np.float32), LABELS[:2], 0),
        (IMAGES[:2, :, :, :1], LABELS[:2], 0),
        (IMAGES[:2], LABELS[:3], 0),
        (IMAGES[:2], LABELS[:2].astype(np.int32), 0),
        (IMAGES[:2], np.array([0, 3]), 0),
        (IMAGES[:2], np.array([0, -1]), 0),
        (IMAGES[:0], LABELS[:0], 0),
        (IMAGES[:2], LABELS[:2], 9),
    ],
)
def test_other_forms_are_refused(images: np.ndarray, labels: np.ndarray, first: int) -> None:
    """Another dtype or size, labels that are none, nothing at all, more than there are."""
    with pytest.raises(InvalidTensor):
        empty().add("a", first, 10, Examples(images=images, labels=labels))
