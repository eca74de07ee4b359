"""The code of a choice of elements, by hand and for any choice."""

from __future__ import annotations

import math

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
        (mask_of(4, 0, 2, 3), bytes([0b1101])),  # w = 0: a bitmap
        (mask_of(9, *range(8)), bytes([0xFF])),  # the zeros behind the last one are not sent
        (mask_of(8, 3), bytes([0b111])),  # w = 2: 3 as it is, nothing above it
        (mask_of(8, 6), bytes([0b1010])),  # w = 2: 6 = 2 + 1 * 4
        (mask_of(16, 1, 12), bytes([0b100_1_10_01])),  # w = 2, gaps 1 and 10 = 2 + 2 * 4: 01 and 10 as they are, then 1 and 001
        (mask_of(1000), b""),
        (mask_of(0), b""),
    ],
)
def test_codes_by_hand(mask: np.ndarray, code: bytes) -> None:
    """Lowest bits first: the low parts of all gaps, then how many 2^w are above each, in unary; nothing for nothing."""
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


@pytest.mark.parametrize("density", [0.001, 0.01, 0.03, 0.1, 0.3])
def test_a_random_choice_takes_little_more_than_its_entropy(density: float) -> None:
    """Within 3 %: no code of independent choices takes less than n H(density) bits on average."""
    size = 200_000
    mask = np.random.default_rng(1).random(size) < density
    share = mask.mean()
    entropy_bytes = -size * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8
    assert len(write_mask(mask)) < 1.03 * entropy_bytes


@pytest.mark.parametrize(
    ("code", "num_kept", "size", "words"),
    [
        (bytes([0b1101]), 2, 4, "hold 3 indices, expected 2"),
        (bytes([0b0101]), 3, 4, "hold 2 indices, expected 3"),
        (bytes([0, 0, 0xFF, 0]), 8, 64, "end after 24 bits, but 4 bytes came"),
        (bytes([0b10000]), 1, 4, "index 6 is outside of 4"),
        (bytes([0b1011]), 1, 7, "index 7 is outside of 7"),
        (b"", 1, 1000, "hold 0 indices, expected 1"),
        (bytes([0xFF]), 3, 1000, "hold 0 indices, expected 3"),
        (bytes([1]), 0, 1000, "take less"),
        (bytes(200), 3, 1000, "take less"),
    ],
)
def test_codes_that_nobody_writes_are_malformed(code: bytes, num_kept: int, size: int, words: str) -> None:
    """Too many or too few gaps, an index outside, bytes behind the end, a code cut short."""
    with pytest.raises(MalformedMessage, match=words):
        read_mask(code, num_kept, size)


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 300))
def test_whatever_comes_is_a_choice_or_malformed(code: bytes, num_kept: int, more: int) -> None:
    """Exactly so many elements, and one code for each choice: bytes that are read are those that would be written."""
    size = num_kept + more
    try:
        mask = read_mask(code, num_kept, size)
    except MalformedMessage:
        return
    assert mask.shape == (size,)
    assert mask.sum() == num_kept
    assert len(write_mask(mask)) == len(code)
