"""Digests tell inputs apart; sketches keep similar ones together."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import InvalidInput, InvalidTensor
from runtime.inference.cache.fingerprint import Sketcher, fingerprint, input_digest
from runtime.messages import TensorSpec

PICTURE = TensorSpec(shape=(1, 1, 64, 64), dtype="uint8")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, PICTURE.shape).astype(np.uint8)


def differing_bits(left: bytes | None, right: bytes | None) -> int:
    assert left is not None
    assert right is not None
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).bit_count()


def test_equal_inputs_share_their_digest() -> None:
    """Whatever their layout in memory."""
    assert input_digest([picture(1)]) == input_digest([np.asfortranarray(picture(1))])


@pytest.mark.parametrize(
    "other",
    [
        [np.zeros((2, 3), dtype=np.float32)],
        [np.zeros((3, 2), dtype=np.int32)],
        [np.zeros(6, dtype=np.float32)],
        [np.zeros((3, 1), dtype=np.float32), np.zeros((3, 1), dtype=np.float32)],
        [np.zeros((3, 2), dtype=np.float32), np.zeros(0, dtype=np.float32)],
        [],
    ],
)
def test_shape_dtype_and_grouping_are_part_of_the_digest(other: list[np.ndarray]) -> None:
    """The same zero bytes in another form are another input."""
    assert input_digest([np.zeros((3, 2), dtype=np.float32)]) != input_digest(other)


def test_sketch_bits_are_the_signs_of_projections() -> None:
    """By hand on a vector: centred, projected on the seeded directions, one bit a sign."""
    values = np.array([3.0, -1.0, 0.0, 2.0], dtype=np.float32)
    directions = np.random.default_rng(5).standard_normal((4, 64), dtype=np.float32)
    expected = np.packbits((values - 1.0) @ directions > 0).tobytes()
    assert Sketcher([TensorSpec(shape=(4,), dtype="float32")], num_bits=64, seed=5).sketch([values]) == expected


@pytest.mark.parametrize("degrees", [10, 45, 90])
def test_differing_bits_measure_the_angle(degrees: int) -> None:
    """A share angle / 180 of 4096 bits, within four standard deviations."""
    radians = np.deg2rad(degrees)
    first = np.array([1, -1, 0, 0], dtype=np.float32)
    second = np.cos(radians) * first + np.sin(radians) * np.array([0, 0, 1, -1], dtype=np.float32)
    sketcher = Sketcher([TensorSpec(shape=(4,), dtype="float32")], num_bits=4096)
    share = differing_bits(sketcher.sketch([first]), sketcher.sketch([second.astype(np.float32)])) / 4096
    expected = degrees / 180
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 4096))


def test_brightness_and_contrast_do_not_change_a_sketch() -> None:
    """Only the pattern counts."""
    sketcher = Sketcher([TensorSpec(shape=(1, 1, 64, 64), dtype="float32")])
    base = picture(3).astype(np.float32)
    assert differing_bits(sketcher.sketch([base]), sketcher.sketch([base * 0.5 + 40])) <= 1


def test_noise_moves_a_sketch_less_than_another_picture_does() -> None:
    """One grey level in twenty of noise against an unrelated picture."""
    sketcher = Sketcher([PICTURE])
    base = picture(4)
    noisy = np.clip(base + np.random.default_rng(0).normal(0, 12, base.shape), 0, 255).astype(np.uint8)
    near, far = (
        differing_bits(sketcher.sketch([base]), sketcher.sketch([noisy])),
        differing_bits(sketcher.sketch([base]), sketcher.sketch([picture(5)])),
    )
    assert near < 30 < far


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf, 3e38])
def test_inputs_without_a_direction_have_no_sketch(value: float) -> None:
    """A constant is similar to nothing, neither is what is not finite or overflows."""
    sketcher = Sketcher([TensorSpec(shape=(1, 1, 20, 20), dtype="float32")])
    assert sketcher.sketch([np.full((1, 1, 20, 20), value, dtype=np.float32)]) is None


def test_foreign_shapes_and_sizes_are_refused() -> None:
    """A sketcher is for one kind of input, and sketches are whole words."""
    with pytest.raises(InvalidTensor, match="sketches are of shapes"):
        Sketcher([PICTURE]).sketch([picture(1)[0]])
    with pytest.raises(InvalidInput, match="multiple of 64"):
        Sketcher([PICTURE], num_bits=100)


def test_fingerprint_has_a_sketch_only_with_a_sketcher() -> None:
    """And counts its bytes."""
    bare, full = fingerprint([picture(1)]), fingerprint([picture(1)], Sketcher([PICTURE]))
    assert (bare.sketch, bare.num_bytes, full.num_bytes) == (None, 32, 64)
