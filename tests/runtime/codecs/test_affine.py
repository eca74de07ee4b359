"""Eight-bit affine quantisation, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.codecs.affine import fit, from_levels, to_levels
from runtime.codecs.header import Affine
from runtime.errors import MalformedMessage

FLOAT32 = np.dtype(np.float32)
MAX = float(np.finfo(np.float32).max)


def test_a_range_of_255_has_steps_of_one() -> None:
    """-55..200: scale 1, zero point 55; 0.4 and 0.6 go to 0 and 1."""
    values = np.array([-55.0, 0.0, 0.4, 0.6, 200.0], np.float32)
    parameters = fit(values)
    assert parameters == Affine(scale=1.0, zero_point=55)
    assert to_levels(values, parameters).tolist() == [0, 55, 55, 56, 255]
    assert from_levels(to_levels(values, parameters), parameters, FLOAT32).tolist() == [-55.0, 0.0, 0.0, 1.0, 200.0]


@pytest.mark.parametrize(
    ("values", "scale", "zero_point"),
    [([51.0, 102.0], 0.4, 0), ([-51.0, -102.0], 0.4, 255), ([-51.0, 51.0], 0.4, 128)],
)
def test_zero_is_always_in_the_range(values: list[float], scale: float, zero_point: int) -> None:
    """Tensors of one sign use all levels on their side of 0; 127.5 rounds to even."""
    parameters = fit(np.array(values, np.float32))
    assert parameters.scale == pytest.approx(scale)
    assert parameters.zero_point == zero_point


@pytest.mark.parametrize("constant", [0.0, 3.0, -7.5, MAX, 1e-45])
def test_constant_tensors_come_back(constant: float) -> None:
    """One value alone has a scale too, and returns within rounding."""
    values = np.full(5, constant, np.float32)
    parameters = fit(values)
    decoded = from_levels(to_levels(values, parameters), parameters, FLOAT32)
    np.testing.assert_allclose(decoded, values, rtol=1e-6, atol=1e-38)


def test_the_widest_range_saturates() -> None:
    """From the lowest to the highest float32 nothing becomes infinite, though the outermost level lies outside."""
    values = np.array([-MAX, 0.0, MAX], np.float32)
    parameters = fit(values)
    decoded = from_levels(to_levels(values, parameters), parameters, FLOAT32)
    assert np.isfinite(decoded).all()
    assert np.abs(decoded.astype(np.float64) - values.astype(np.float64)).max() <= 0.5 * parameters.scale * (1 + 1e-6)


def test_a_scale_that_no_tensor_has_is_malformed() -> None:
    """float16 tensors cannot have steps of 10^6."""
    with pytest.raises(MalformedMessage, match="beyond what float16 tensors can have"):
        from_levels(np.zeros(1, np.uint8), Affine(scale=1e6, zero_point=0), np.dtype(np.float16))
