"""All layouts of a choice of elements, by hand and for any choice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.codecs.indices import bound_bytes, read_mask, write_mask
from runtime.errors import MalformedMessage


def mask_of(size: int, *indices: int) -> np.ndarray:
    """bool [size] with these set."""
    mask = np.zeros(size, np.bool_)
    mask[list(indices)] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (mask_of(16, 0, 9), bytes([1, 2])),
        (mask_of(9, 8), bytes([8])),
        (mask_of(1000, 0, 1, 3), bytes([0, 0, 1])),
        (mask_of(1000, 9, 265, 266, 267), bytes([9, 255, 0, 0, 0])),
        (mask_of(1000, 254), bytes([254, 0])),
        (mask_of(1000, 255, 999), bytes([255, 0, 0xE7, 0x02])),
        (mask_of(70_000, 65_536), bytes([255, 255, 1, 0])),
        (mask_of(1000), b""),
        (mask_of(0), b""),
    ],
)
def test_layouts_by_hand(mask: np.ndarray, code: bytes) -> None:
    """Bitmaps from the lowest bit; gaps less one, 255 carrying on, in two bytes where they are few; nothing for nothing."""
    assert write_mask(mask) == code
    np.testing.assert_array_equal(read_mask(code, int(mask.sum()), mask.size), mask)


@given(st.integers(0, 3000), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_any_choice_round_trips_within_its_bound(size: int, density: float, seed: int) -> None:
    """And the bound is never above a bitmap, nor falling with the number kept."""
    mask = np.random.default_rng(seed).random(size) < density
    num_kept = int(mask.sum())
    code = write_mask(mask)
    np.testing.assert_array_equal(read_mask(code, num_kept, size), mask)
    assert len(code) <= bound_bytes(num_kept, size) <= (size + 7) // 8
    assert num_kept == 0 or bound_bytes(num_kept - 1, size) <= bound_bytes(num_kept, size)


@pytest.mark.parametrize(
    ("code", "num_kept", "size", "words"),
    [
        (bytes([1, 2]), 1, 16, "bitmap of 16 elements|take less"),
        (bytes([3, 2]), 2, 16, "sets 3 bits, expected 2"),
        (bytes([1, 2]), 2, 9, "take less|sets"),
        (bytes([1, 4]), 2, 10, "sets 2 bits, expected 2 of the first 10"),
        (bytes([1, 1]), 3, 1000, "hold 2 indices, expected 3"),
        (bytes([255, 255, 255, 0, 0, 250]), 3, 1000, "index 1017 is outside of 1000"),
        (bytes([1, 1, 255]), 3, 1000, "hold 2 indices"),
        (bytes([1, 1, 1, 255]), 3, 1000, "hold 3 indices, expected 3"),
        (bytes([0xE8, 0x03]), 1, 1000, "index 1000 is outside of 1000"),
        (bytes([1]), 1, 1000, "words of 2 bytes"),
        (bytes([255, 255]), 1, 1000, "hold 0 indices"),
        (bytes(200), 3, 1000, "take less"),
    ],
)
def test_codes_that_nobody_writes_are_malformed(code: bytes, num_kept: int, size: int, words: str) -> None:
    """Too many or too few bits or gaps, padding that is set, an index outside, a carry without an end."""
    with pytest.raises(MalformedMessage, match=words):
        read_mask(code, num_kept, size)
