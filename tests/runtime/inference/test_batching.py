"""Batches: their configuration, what they cost, and joining tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.config import decode_config
from runtime.errors import InvalidConfig, InvalidTensor
from runtime.inference.batching import BatchingConfig, affine_batch_s, fixed_fraction, stack, unstack
from runtime.messages import DType, TensorSpec

DTYPES: list[DType] = ["float32", "float16", "uint8", "int8", "int32", "int64"]


@pytest.mark.parametrize(
    "wrong",
    [{"max_batch": 0}, {"max_batch": 1025}, {"max_hold_s": -1.0}, {"max_hold_s": math.inf}, {"max_stretch_s": math.nan}, {"hold": 1}],
)
def test_impossible_batching_is_refused(wrong: dict[str, Any]) -> None:
    """Each field is checked when the configuration is read."""
    with pytest.raises(InvalidConfig):
        decode_config(wrong, BatchingConfig, "test")


def test_affine_cost_by_hand() -> None:
    """10 ms alone, 40 % of it fixed: 4 rows take 4 + 4 * 6 = 28 ms."""
    assert affine_batch_s(0.010, 0.4, 1) == pytest.approx(0.010)
    assert affine_batch_s(0.010, 0.4, 4) == pytest.approx(0.028)


@given(st.floats(1e-5, 10), st.floats(0, 1), st.integers(2, 20))
def test_fixed_fraction_is_found_again(alone_s: float, fraction: float, number: int) -> None:
    """Times that follow the affine model give back its fraction."""
    seconds = [affine_batch_s(alone_s, fraction, rows) for rows in range(1, number + 1)]
    assert fixed_fraction(seconds) == pytest.approx(fraction, abs=1e-9)


def test_fixed_fraction_stays_a_fraction() -> None:
    """Batches slower than their rows alone have no fixed part, and too little to fit is refused."""
    assert fixed_fraction([1.0, 3.0]) == 0.0
    assert fixed_fraction([1.0, 0.5]) == 1.0
    for few in ([], [1.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match="two or more positive"):
            fixed_fraction(few)


@given(st.lists(st.tuples(st.lists(st.integers(0, 4), max_size=3), st.sampled_from(DTYPES)), min_size=1, max_size=3), st.integers(1, 6))
def test_unstack_inverts_stack(cut: list[tuple[list[int], DType]], number: int) -> None:
    """Whatever a cut carries, each request gets its own tensors back, bit by bit."""
    specs = [TensorSpec(shape=(1, *extents), dtype=dtype) for extents, dtype in cut]
    rng = np.random.default_rng(0)
    requests = [[rng.integers(0, 100, spec.shape).astype(spec.dtype) for spec in specs] for _ in range(number)]
    batch = stack(requests, specs)
    assert [tensor.shape for tensor in batch] == [(number, *spec.shape[1:]) for spec in specs]
    for given_tensors, back in zip(requests, unstack(batch, number), strict=True):
        for tensor, again in zip(given_tensors, back, strict=True):
            assert again.dtype == tensor.dtype
            np.testing.assert_array_equal(again, tensor)


def test_one_request_is_not_copied() -> None:
    """A batch of one is the identity."""
    tensor = np.zeros((1, 3), np.float32)
    assert stack([[tensor]], [TensorSpec(shape=(1, 3), dtype="float32")])[0] is tensor


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [[]],
        [[np.zeros((1, 3), np.float32)], [np.zeros((1, 4), np.float32)]],
        [[np.zeros((1, 3), np.float32)], [np.zeros((1, 3), np.float64)]],
        [[np.zeros((2, 3), np.float32)]],
        [[np.zeros((1, 3), np.float32)] * 2],
    ],
)
def test_foreign_rows_are_refused(requests: list[list[np.ndarray]]) -> None:
    """One request that does not fit is found before anything is joined."""
    with pytest.raises(InvalidTensor):
        stack(requests, [TensorSpec(shape=(1, 3), dtype="float32")])


def test_only_a_leading_axis_of_one_is_stacked() -> None:
    """A cut without a batch axis cannot be joined."""
    with pytest.raises(InvalidTensor, match="leading axis of one"):
        stack([[np.zeros((3,), np.float32)]], [TensorSpec(shape=(3,), dtype="float32")])


@pytest.mark.parametrize("tensor", [np.zeros(()), np.zeros((1, 3)), np.zeros((3, 3))])
def test_lost_rows_are_noticed(tensor: np.ndarray) -> None:
    """A result that has not one row for each request is refused."""
    with pytest.raises(InvalidTensor, match="rows cannot be told apart"):
        unstack([np.zeros((2, 1)), tensor], 2)
