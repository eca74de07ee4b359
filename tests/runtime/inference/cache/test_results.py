"""The cache: what it may answer with, what it counts, and that it keeps its budget."""

from __future__ import annotations

import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.inference.cache import CacheConfig, Fingerprint, Hit, Question, ResultCache
from runtime.inference.cache.results import entry_bytes

ASKED = Question(tenant="a", model="m", version="1", variant="fp32", exit=0)
OTHERS = [
    msgspec.structs.replace(ASKED, **{name: value})
    for name, value in [("tenant", "b"), ("model", "n"), ("version", "2"), ("variant", "int8"), ("exit", 1), ("stage", 1)]
]


def key(number: int, sketch: int | None = None) -> Fingerprint:
    return Fingerprint(digest=number.to_bytes(32, "big"), sketch=None if sketch is None else sketch.to_bytes(8, "big"))


def answer(value: float) -> list[np.ndarray]:
    return [np.array([[value]], dtype=np.float32)]


def value_of(hit: Hit | None) -> float | None:
    return None if hit is None else float(hit.tensors[0][0, 0])


@pytest.mark.parametrize("other", OTHERS, ids=lambda question: str(question))
def test_no_part_of_a_question_is_ignored(other: Question) -> None:
    """Another tenant, model, version, variant, exit or cut never gets the answer, equal input or not."""
    cache = ResultCache(CacheConfig(max_distance=64))
    cache.store(ASKED, key(1, 5), answer(1.0), 0.0)
    assert cache.lookup((other,), key(1, 5), 0.0) is None
    assert value_of(cache.lookup((ASKED,), key(1, 5), 0.0)) == 1.0


def test_exact_comes_before_similar_even_of_a_later_question() -> None:
    """The asked form holds a similar input at distance 0, an acceptable one the very input: that one answers."""
    cache = ResultCache(CacheConfig(max_distance=8))
    cache.store(ASKED, key(1, 5), answer(1.0), 0.0)
    cache.store(OTHERS[4], key(2, 99), answer(2.0), 0.0)
    hit = cache.lookup((ASKED, OTHERS[4]), key(2, 5), 0.0)
    assert hit is not None
    assert (hit.kind, hit.question, value_of(hit)) == ("exact", OTHERS[4], 2.0)


def test_the_nearest_of_similar_inputs_answers() -> None:
    """At 2 and 1 bits, across questions; at equal distance the earlier question; beyond the bound nobody."""
    cache = ResultCache(CacheConfig(max_distance=2))
    cache.store(ASKED, key(1, 0b011), answer(1.0), 0.0)
    cache.store(OTHERS[4], key(2, 0b100), answer(2.0), 0.0)
    both = (ASKED, OTHERS[4])
    nearest = cache.lookup(both, key(3, 0), 0.0)
    assert nearest is not None
    assert (nearest.kind, nearest.distance, value_of(nearest)) == ("similar", 1, 2.0)
    assert value_of(cache.lookup(both, key(3, 0b001), 0.0)) == 1.0
    assert cache.lookup(both, key(3, 0b111000), 0.0) is None


def test_equal_inputs_only_without_a_bound() -> None:
    """A sketch alone is no hit unless the cache was told a distance; a similar one without a sketch neither."""
    exact_only, similar = ResultCache(CacheConfig()), ResultCache(CacheConfig(max_distance=64))
    for cache in (exact_only, similar):
        cache.store(ASKED, key(1, 5), answer(1.0), 0.0)
    assert exact_only.lookup((ASKED,), key(2, 5), 0.0) is None
    assert similar.lookup((ASKED,), key(2), 0.0) is None


def test_counters_by_hand() -> None:
    """Every look-up and every leaving is counted once, by its reason."""
    room = entry_bytes(ASKED, key(1, 1), answer(0.0))
    cache = ResultCache(CacheConfig(max_bytes=2 * room, ttl_s=10.0, max_distance=1))
    cache.store(ASKED, key(1, 0), answer(1.0), 0.0)
    cache.store(ASKED, key(1, 0), answer(1.5), 1.0)
    cache.store(ASKED, key(2, 0xFF), answer(2.0), 2.0)
    cache.store(ASKED, key(3, 0xFFFF), answer(3.0), 3.0)
    assert not cache.store(ASKED, key(4, 7), [np.zeros(2 * room, dtype=np.uint8)], 3.0)
    assert value_of(cache.lookup((ASKED,), key(2, 0xFF), 3.0)) == 2.0
    assert value_of(cache.lookup((ASKED,), key(9, 0xFE), 3.0)) == 2.0
    assert cache.lookup((ASKED,), key(1, 0), 3.0) is None
    assert cache.lookup((ASKED,), key(2, 0xFF), 12.0) is None
    assert cache.invalidate(tenant="a", version="1") == 1
    assert cache.invalidate() == 0
    assert msgspec.structs.asdict(cache.counters()) == {
        "hits_exact": 1,
        "hits_similar": 1,
        "misses": 2,
        "stored": 4,
        "refused": 1,
        "evicted_expired": 1,
        "evicted_budget": 1,
        "evicted_replaced": 1,
        "evicted_invalidated": 1,
    }
    assert cache.counters().hit_fraction() == 0.5
    assert (len(cache), cache.num_bytes) == (0, 0)


def test_invalidation_takes_what_it_names_and_no_more() -> None:
    """A tenant's, a model's, a version's; similar look-ups forget with them."""
    cache = ResultCache(CacheConfig(max_distance=64))
    for number, question in enumerate([ASKED, *OTHERS]):
        cache.store(question, key(number, number), answer(number), 0.0)
    assert cache.invalidate(model="m", version="2") == 1
    assert cache.invalidate(tenant="b") == 1
    assert cache.lookup((OTHERS[0], OTHERS[2]), key(77, 0), 0.0) is None
    assert len(cache) == 5
    assert cache.invalidate() == 5


def test_answers_are_copies_that_cannot_be_written() -> None:
    """Neither the caller's array nor the one handed out changes what is kept."""
    cache = ResultCache(CacheConfig())
    mine = answer(1.0)
    cache.store(ASKED, key(1), mine, 0.0)
    mine[0][0, 0] = 9.0
    hit = cache.lookup((ASKED,), key(1), 0.0)
    assert hit is not None
    assert value_of(hit) == 1.0
    with pytest.raises(ValueError, match="read-only"):
        hit.tensors[0][0, 0] = 5.0


@pytest.mark.parametrize(("count", "distinct"), [(1, False), (17, False), (600, False), (300, True)])
def test_memory_really_used_stays_below_what_is_counted(count: int, distinct: bool) -> None:
    """Against tracemalloc, with one question for all and with one each, at a size where the index has just doubled."""
    tracemalloc.start()
    try:
        cache = ResultCache(CacheConfig(max_distance=3))
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            question = msgspec.structs.replace(ASKED, tenant=f"tenant-{number if distinct else 0}")
            cache.store(question, key(number, number), [np.zeros((1, 10), dtype=np.float32)], 0.0)
        used_bytes = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.3 * cache.num_bytes < used_bytes <= cache.num_bytes


def test_lengths_that_differ_are_refused_before_anything_changes() -> None:
    """A short digest, or another sketcher's sketch."""
    cache = ResultCache(CacheConfig(max_distance=1))
    cache.store(ASKED, key(1, 1), answer(1.0), 0.0)
    for wrong in (Fingerprint(digest=b"short"), Fingerprint(digest=bytes(32), sketch=bytes(16))):
        with pytest.raises(InvalidInput, match="bytes, got"):
            cache.store(ASKED, wrong, answer(2.0), 0.0)
    assert len(cache) == 1


@pytest.mark.parametrize("wrong", [{"max_bytes": -1}, {"ttl_s": 0.0}, {"ttl_s": float("nan")}, {"max_distance": -1}])
def test_impossible_configurations_are_refused(wrong: dict[str, float]) -> None:
    """Also when they come from a file."""
    with pytest.raises(ValueError, match="a cache needs"):
        msgspec.convert(wrong, CacheConfig)


STEPS = st.lists(
    st.tuples(st.sampled_from(["lookup", "store"]), st.integers(0, 6), st.integers(0, 2), st.integers(0, 255), st.floats(0.0, 2.0)),
    max_size=60,
)


@given(STEPS, st.integers(0, 6), st.integers(0, 20_000))
def test_it_behaves_as_its_model(steps: list[tuple[str, int, int, int, float]], bound: int, max_bytes: int) -> None:
    """Against a list in order of use: the same hits, at the least distance, never over budget; and twice the same."""
    config = CacheConfig(max_bytes=max_bytes, ttl_s=5.0, max_distance=bound)
    assert _play(steps, config) == _play(steps, config)


def _play(steps: list[tuple[str, int, int, int, float]], config: CacheConfig) -> list[float | None]:
    cache, seen = ResultCache(config), []
    model: list[tuple[Question, Fingerprint, float, float]] = []  # least recently used first; value, stored at
    questions = (ASKED, OTHERS[0], OTHERS[4])
    at_s = 0.0
    for number, (name, digest, asked, sketch, later_s) in enumerate(steps):
        at_s += later_s
        question, print_ = questions[asked], key(digest, sketch)
        model = [row for row in model if row[3] + config.ttl_s > at_s]
        if name == "store":
            model = [row for row in model if (row[0], row[1].digest) != (question, print_.digest)]
            if cache.store(question, print_, answer(number), at_s):
                model.append((question, print_, number, at_s))
            while sum(entry_bytes(row[0], row[1], answer(0)) for row in model) > config.max_bytes:
                model.pop(0)
        else:
            hit = cache.lookup((question,), print_, at_s)
            seen.append(value_of(hit))
            _check(hit, [row for row in model if row[0] == question], print_, config.max_distance or 0)
            used = [row for row in model if row[2] == value_of(hit)]
            model = [row for row in model if row not in used] + used
        assert len(cache) == len(model)
        assert cache.num_bytes == sum(entry_bytes(row[0], row[1], answer(0)) for row in model) <= config.max_bytes
    return seen


def _check(hit: Hit | None, rows: list[tuple[Question, Fingerprint, float, float]], asked: Fingerprint, bound: int) -> None:
    distances = {row[2]: _distance(row[1], asked) for row in rows}
    exact = [row[2] for row in rows if row[1].digest == asked.digest]
    least = min(distances.values(), default=999)
    if exact:
        assert hit is not None
        assert (hit.kind, value_of(hit)) == ("exact", exact[0])
    elif least <= bound:
        assert hit is not None
        assert (hit.kind, hit.distance, distances[value_of(hit) or 0.0]) == ("similar", least, least)
    else:
        assert hit is None


def _distance(left: Fingerprint, right: Fingerprint) -> int:
    assert left.sketch is not None
    assert right.sketch is not None
    return (int.from_bytes(left.sketch, "big") ^ int.from_bytes(right.sketch, "big")).bit_count()
