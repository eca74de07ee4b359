"""Which elements are kept, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.codecs.header import Sparse
from runtime.codecs.topk import TopK, largest


@pytest.mark.parametrize(
    ("values", "k", "kept"),
    [
        ([1.0, -5.0, 3.0, 0.5], 2, [1, 2]),
        ([2.0, -2.0, 2.0, 1.0], 2, [0, 1]),
        ([2.0, 3.0, -2.0, 2.0], 3, [0, 1, 2]),
        ([0.0, 0.0, 4.0, 0.0], 3, [2]),
        ([0.0, -0.0], 1, []),
        ([7.0], 1, [0]),
    ],
)
def test_the_largest_by_hand(values: list[float], k: int, kept: list[int]) -> None:
    """Magnitudes rank; of equal ones the first stay; zeros never do."""
    assert np.flatnonzero(largest(np.array(values, np.float32), k)).tolist() == kept


def test_the_frame_is_values_then_indices() -> None:
    """10 % of 20 elements: two float32, then gaps of 12 and 2 in steps of 4: 0 and 2 as they are, 3 and 0 in unary."""
    tensor = np.zeros(20, np.float32)
    tensor[[3, 12, 15]] = [1.0, -9.0, 4.0]
    encoded = TopK(10).encode(tensor)
    assert encoded.header.parameters == Sparse(num_kept=2)
    assert bytes(encoded.frame) == np.array([-9.0, 4.0], np.float32).tobytes() + bytes([0b1000_10_00, 0b1])


@pytest.mark.parametrize("density_percent", [0, 101])
def test_a_density_is_a_percentage(density_percent: int) -> None:
    """Nothing at all, or more than all, cannot be kept."""
    with pytest.raises(ValueError, match=r"1\.\.100 percent"):
        TopK(density_percent)
