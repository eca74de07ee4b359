"""The index against looking at a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.inference.cache.index import HammingIndex


def test_nearest_by_hand() -> None:
    """Three sketches at 3, 1 and 64 bits of the query; the bound is inclusive."""
    index: HammingIndex[str] = HammingIndex(8)
    index.add("three", bytes([0b111, 0, 0, 0, 0, 0, 0, 0]))
    index.add("one", bytes([0, 0, 0, 0, 0, 0, 0, 0b1000]))
    index.add("all", b"\xff" * 8)
    assert index.nearest(bytes(8), 64) == ("one", 1)
    assert index.nearest(bytes(8), 1) == ("one", 1)
    assert index.nearest(bytes(8), 0) is None


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "nearest"]), st.integers(0, 40), st.binary(min_size=16, max_size=16)), max_size=120
)


@given(OPERATIONS, st.integers(0, 128))
def test_it_finds_what_a_scan_finds(operations: list[tuple[str, int, bytes]], bound: int) -> None:
    """After any additions and removals, the least distance is that of a plain scan, and so is its key's."""
    index: HammingIndex[int] = HammingIndex(16)
    model: dict[int, bytes] = {}
    for name, key, sketch in operations:
        if name == "add" and key not in model:
            index.add(key, sketch)
            model[key] = sketch
        elif name == "remove":
            index.remove(key)
            model.pop(key, None)
        else:
            distances = {k: _distance(s, sketch) for k, s in model.items()}
            least = min(distances.values(), default=999)
            found = index.nearest(sketch, bound)
            assert (found is None) == (least > bound)
            assert found is None or (found[1] == least == distances[found[0]])
        assert len(index) == len(model)


def test_room_shrinks_with_its_entries() -> None:
    """A thousand in, all but five out: the five are still found, in at most four times their room."""
    index: HammingIndex[int] = HammingIndex(8)
    sketches = {key: np.uint64(key * 2654435761).tobytes() for key in range(1000)}
    for key, sketch in sketches.items():
        index.add(key, sketch)
    for key in range(995):
        index.remove(key)
    assert index.num_words <= 4 * 16
    for key in range(995, 1000):
        assert index.nearest(sketches[key], 0) == (key, 0)


def test_wrong_lengths_and_double_keys_are_refused() -> None:
    """Nothing is guessed."""
    index: HammingIndex[int] = HammingIndex(8)
    index.add(1, bytes(8))
    with pytest.raises(InvalidInput, match="already"):
        index.add(1, bytes(8))
    with pytest.raises(InvalidInput, match="got 7"):
        index.nearest(bytes(7), 3)
    with pytest.raises(InvalidInput, match="multiple of 8"):
        HammingIndex(12)


def _distance(left: bytes, right: bytes) -> int:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).bit_count()
