"""Shamir's shares."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.training.shamir import PRIME, SECRET_BYTES, SHARE_BYTES, Share, join_shares, split_secret


@settings(max_examples=30)
@given(st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES), st.integers(1, 6), st.integers(0, 4), st.integers(0, 1000))
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, threshold: int, spare: int, seed: int) -> None:
    """In any order; one fewer is refused."""
    rng = np.random.default_rng(seed)
    shares = split_secret(secret, threshold + spare, threshold, rng.bytes)
    chosen = [shares[index] for index in rng.permutation(len(shares))[:threshold]]
    assert join_shares(chosen, threshold) == secret
    with pytest.raises(InvalidInput, match="different shares"):
        join_shares(chosen[:-1], threshold)


def test_a_line_by_hand() -> None:
    """Secret 7 and slope 3 over two of three: shares 10, 13, 16."""

    def entropy(num_bytes: int) -> bytes:
        return (3).to_bytes(num_bytes, "big")

    shares = split_secret((7).to_bytes(SECRET_BYTES, "big"), 3, 2, entropy)
    assert [int.from_bytes(share.y, "big") for share in shares] == [10, 13, 16]
    for pair in itertools.combinations(shares, 2):
        assert join_shares(pair, 2) == (7).to_bytes(SECRET_BYTES, "big")


def test_one_share_below_the_threshold_fits_every_secret() -> None:
    """For one share of two and any other secret there is a slope that explains it: the share says nothing."""
    share = split_secret(bytes(SECRET_BYTES), 2, 2, np.random.default_rng(0).bytes)[0]
    for claimed in (1, 2**255):
        slope = (int.from_bytes(share.y, "big") - claimed) % PRIME
        other = Share(x=2, y=((claimed + 2 * slope) % PRIME).to_bytes(SHARE_BYTES, "big"))
        assert int.from_bytes(join_shares([share, other], 2), "big") == claimed


def test_shares_that_do_not_belong_together_are_refused() -> None:
    """The same share twice, shares of two secrets, a value outside the field."""
    first, second = (split_secret(bytes([n]) * SECRET_BYTES, 3, 2, np.random.default_rng(n).bytes) for n in (1, 2))
    with pytest.raises(InvalidInput, match="different shares"):
        join_shares([first[0], first[0]], 2)
    with pytest.raises(InvalidInput, match="no 32-byte secret"):
        join_shares([first[0], second[1]], 2)
    with pytest.raises(InvalidInput, match="field element"):
        Share(x=1, y=b"\xff" * SHARE_BYTES)
    with pytest.raises(InvalidInput, match="threshold"):
        split_secret(bytes(SECRET_BYTES), 2, 3, np.random.default_rng(0).bytes)
