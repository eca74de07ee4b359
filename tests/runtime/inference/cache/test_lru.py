"""The store against a plain model of use, age and budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.inference.cache.lru import LruStore


def test_the_least_recently_used_leaves_first() -> None:
    """Three of 10 bytes in 30; the first is used, so the second makes room for the fourth."""
    store: LruStore[str, int] = LruStore(30, 10.0)
    store.expire(0.0)
    for number, key in enumerate("abc"):
        assert store.put(key, number, 10) == []
    assert store.get("a") == 0
    assert store.put("d", 3, 10) == ["b"]
    assert list(store) == ["c", "a", "d"]


def test_use_does_not_prolong_a_lifetime() -> None:
    """Put at 1 s for 10 s, used at 10.9 s, gone at 11 s."""
    store: LruStore[str, int] = LruStore(30, 10.0)
    store.expire(1.0)
    store.put("a", 1, 10)
    assert store.expire(10.9) == []
    assert store.get("a") == 1
    assert store.expire(11.0) == ["a"]
    assert store.num_bytes == 0


STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "put", "remove"]), st.integers(0, 8), st.integers(0, 12), st.floats(-2.0, 4.0, allow_nan=False)),
    max_size=80,
)


@given(STEPS, st.integers(0, 40), st.floats(0.5, 9.0))
def test_it_behaves_as_its_model(steps: list[tuple[str, int, int, float]], max_bytes: int, ttl_s: float) -> None:
    """Whatever happens: the same keys in the same order of use as a list would have, and never over budget."""
    store: LruStore[int, int] = LruStore(max_bytes, ttl_s)
    model: list[tuple[int, int, int, float]] = []  # key, value, bytes, expires; least recently used first
    now_s = at_s = 0.0
    for number, (name, key, num_bytes, later_s) in enumerate(steps):
        at_s += later_s
        now_s = max(now_s, at_s) if number else at_s
        expired = store.expire(at_s)
        assert set(expired) == {row[0] for row in model if row[3] <= now_s}
        model = [row for row in model if row[3] > now_s]
        held = next((row for row in model if row[0] == key), None)
        if name == "get":
            assert store.get(key) == (held[1] if held else None)
            model = [row for row in model if row is not held] + ([held] if held else [])
        elif name == "remove" or held is not None:
            assert store.remove(key) == (held is not None)
            model = [row for row in model if row is not held]
        elif num_bytes <= max_bytes:
            evicted = store.put(key, number, num_bytes)
            gone = []
            while sum(row[2] for row in model) + num_bytes > max_bytes:
                gone.append(model.pop(0)[0])
            assert evicted == gone
            model.append((key, number, num_bytes, now_s + ttl_s))
        assert list(store) == [row[0] for row in model]
        assert store.num_bytes == sum(row[2] for row in model) <= max_bytes


def test_impossible_entries_and_stores_are_refused() -> None:
    """Too large, already there, or a store without a lifetime."""
    store: LruStore[str, int] = LruStore(10, 1.0)
    with pytest.raises(InvalidInput, match="fit into 10"):
        store.put("a", 1, 11)
    store.put("a", 1, 5)
    with pytest.raises(InvalidInput, match="must be new"):
        store.put("a", 1, 5)
    with pytest.raises(InvalidInput, match="ttl_s > 0"):
        LruStore(10, 0.0)
