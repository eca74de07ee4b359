"""Bias, contraction and bytes of each operator, by hand and for any vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.errors import MalformedMessage
from runtime.training.compress.interface import Compressed, Operator
from runtime.training.compress.packing import pack, unpack
from runtime.training.compress.qsgd import Qsgd
from runtime.training.compress.sign import Sign
from runtime.training.compress.sparse import RandomK, TopK

VECTORS = arrays(np.float32, st.integers(1, 300), elements=st.floats(-1000, 1000, width=32))


def played(operator: Operator, vector: np.ndarray, seed: int = 0) -> np.ndarray:
    """What arrives."""
    return operator.decode(operator.encode(vector, np.random.default_rng(seed)), vector.size)


@pytest.mark.parametrize("operator", [Qsgd(2, 16), Qsgd(4, 16), Qsgd(8, 16), RandomK(0.25)])
def test_unbiased_operators_are_right_on_average(operator: Operator) -> None:
    """The mean of 1500 draws is within five standard errors of the vector, element by element."""
    vector = np.random.default_rng(1).normal(size=40).astype(np.float32)
    draws = np.stack([played(operator, vector, seed) for seed in range(1500)]).astype(np.float64)
    standard_error = draws.std(axis=0) / np.sqrt(len(draws)) + 1e-6
    assert (np.abs(draws.mean(axis=0) - vector) < 5 * standard_error).all()


@pytest.mark.parametrize(("bits", "num_levels"), [(2, 1), (4, 7), (8, 127)])
@settings(max_examples=30)
@given(vector=VECTORS)
def test_qsgd_is_off_by_less_than_a_level(bits: int, num_levels: int, vector: np.ndarray) -> None:
    """Each element lands on one of the two levels around it."""
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    assert np.abs(played(Qsgd(bits, 512), vector) - vector).max() <= norm / num_levels * (1 + 1e-5)


@settings(max_examples=50)
@given(vector=VECTORS, density=st.floats(0.01, 1))
def test_topk_contracts(vector: np.ndarray, density: float) -> None:
    """||C(v) - v||^2 <= (1 - k/n) ||v||^2, and what is kept is exact."""
    operator, exact = TopK(density), vector.astype(np.float64)
    read = played(operator, vector)
    share = 1 - operator.num_kept(vector.size) / vector.size
    assert np.sum((read - exact) ** 2) <= share * np.sum(exact**2) * (1 + 1e-9)
    assert ((read == vector) | (read == 0)).all()


@settings(max_examples=50)
@given(vector=VECTORS)
def test_sign_loses_what_its_lemma_says(vector: np.ndarray) -> None:
    """||C(p) - p||^2 = ||p||^2 - ||p||_1^2 / d in one bucket."""
    exact = vector.astype(np.float64)
    expected = np.sum(exact**2) - np.abs(exact).sum() ** 2 / exact.size
    assert np.sum((played(Sign(), vector) - exact) ** 2) == pytest.approx(expected, rel=1e-4, abs=1e-5 * np.sum(exact**2) + 1e-30)


def test_sign_by_hand() -> None:
    """Two buckets of three and one: means 2 and 7, one bit each."""
    encoded = Sign(3).encode(np.array([1, -2, 3, -7], np.float32), np.random.default_rng(0))
    assert [bytes(frame) for frame in encoded.frames] == [np.array([2, 7], np.float32).tobytes(), bytes([0b1010])]
    np.testing.assert_array_equal(Sign(3).decode(encoded, 4), np.array([2, -2, 2, -7], np.float32))


@given(bits=st.sampled_from([1, 2, 4, 8]), data=st.data())
def test_packing_round_trips(bits: int, data: st.DataObject) -> None:
    """Any levels, in the fewest whole bytes."""
    levels = data.draw(arrays(np.uint8, st.integers(0, 50), elements=st.integers(0, 2**bits - 1)))
    packed = pack(levels, bits)
    assert len(packed) == -(-levels.size * bits // 8)
    np.testing.assert_array_equal(unpack(packed, bits, levels.size), levels)


def test_a_level_or_norm_that_nobody_writes_is_refused() -> None:
    """Level 15 of 0..14, a negative norm, a set padding bit."""
    good = Qsgd(4).encode(np.ones(3, np.float32), np.random.default_rng(0))
    norm, levels = (bytes(frame) for frame in good.frames)
    for frames in [(norm, b"\xff\x0f"), (np.float32(-1).tobytes(), levels), (norm, levels[:1] + b"\xff"), (norm[:3], levels)]:
        with pytest.raises(MalformedMessage):
            Qsgd(4).decode(Compressed(header=good.header, frames=frames), 3)


def test_bytes_are_those_of_the_frames() -> None:
    """1000 dense elements: 2 norms and half a byte each; 10 values, and at most 10 gaps of 7 bits and 15 steps of 64."""
    vector = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert Qsgd(4).encode(vector, np.random.default_rng(0)).num_bytes == Qsgd(4).bytes_estimate(1000) == 8 + 500
    assert 48 <= TopK(0.01).encode(vector, np.random.default_rng(0)).num_bytes <= TopK(0.01).bytes_estimate(1000) == 40 + 11
