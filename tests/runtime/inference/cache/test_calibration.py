"""The error of similar hits, and the bound that keeps a target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.inference.cache import (
    CacheConfig,
    DistancePoint,
    Fingerprint,
    Question,
    ResultCache,
    Sketcher,
    calibrate_distance,
    distance_curve,
    fingerprint,
)
from runtime.inference.engine import Engine
from runtime.models.examples import load_examples

ASKED = Question(tenant="a", model="m", version="1", variant="fp32", exit=0)


def key(number: int, sketch: int | None) -> Fingerprint:
    return Fingerprint(digest=number.to_bytes(32, "big"), sketch=None if sketch is None else sketch.to_bytes(8, "big"))


def test_curve_by_hand() -> None:
    """Five inputs: two apart by one bit that agree, one two bits off that does not, one repeated, one without a sketch."""
    stream = [key(1, 0b000), key(2, 0b001), key(3, 0b110), key(1, 0b000), key(4, None)]
    points = distance_curve(stream, np.array([7, 7, 8, 7, 9]), [0, 1, 2])
    assert [(p.num_exact, p.num_similar, p.num_wrong) for p in points] == [(1, 0, 0), (1, 1, 0), (1, 2, 1)]
    assert (points[2].similar_fraction, points[2].error_fraction) == (0.4, 0.5)


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 255))), max_size=30), st.integers(0, 8))
def test_curve_is_what_the_real_cache_does(inputs: list[tuple[int, int | None]], bound: int) -> None:
    """The same stream through a ResultCache with that bound: the same exact, similar and wrong hits."""
    stream = [key(number, sketch) for number, sketch in inputs]
    answers = np.array([number % 3 for number, _ in inputs], dtype=np.int64)
    cache = ResultCache(CacheConfig(max_distance=bound, ttl_s=1e9))
    num_wrong = 0
    for item, answer in zip(stream, answers, strict=True):
        hit = cache.lookup((ASKED,), item, 0.0)
        if hit is None:
            cache.store(ASKED, item, [np.array([answer])], 0.0)
        elif hit.kind == "similar":
            num_wrong += int(hit.tensors[0][0] != answer)
    (point,) = distance_curve(stream, answers, [bound])
    counters = cache.counters()
    assert (point.num_exact, point.num_similar, point.num_wrong) == (counters.hits_exact, counters.hits_similar, num_wrong)


def point(bound: int, num_similar: int, num_wrong: int) -> DistancePoint:
    return DistancePoint(max_distance=bound, num_lookups=1000, num_exact=0, num_similar=num_similar, num_wrong=num_wrong)


def test_calibration_wants_evidence() -> None:
    """At 5 % and 95 %: 59 clean hits prove it for a single bound, 58 do not, and two bounds share the confidence."""
    assert calibrate_distance([point(3, 59, 0)], 0.05) == 3
    assert calibrate_distance([point(3, 58, 0)], 0.05) is None
    assert calibrate_distance([point(3, 59, 0), point(9, 59, 30)], 0.05) is None
    assert calibrate_distance([point(3, 200, 0), point(6, 500, 8), point(9, 600, 90)], 0.05) == 6


def test_impossible_questions_are_refused() -> None:
    """A target of one, or answers that are missing."""
    with pytest.raises(InvalidInput, match=r"\[0, 1\)"):
        calibrate_distance([], 1.0)
    with pytest.raises(InvalidInput, match="as many answers"):
        distance_curve([key(1, 1)], np.array([]), [0])


@pytest.mark.slow
def test_a_calibrated_bound_keeps_its_target_on_pictures_it_has_not_seen(digits_model: Path) -> None:
    """Real scans with synthetic sensor noise: calibrated on the validation split, held on the test split."""
    engine = Engine(digits_model)
    sketcher = Sketcher([engine.manifest.input])
    curves = {}
    for split in ("validation", "test"):
        images = _noisy_twice(load_examples(digits_model, split).images)
        answers = np.array([engine.run("fp32", 0, engine.manifest.num_stages, 2, [image])[0].argmax() for image in images])
        curves[split] = distance_curve([fingerprint([image], sketcher) for image in images], answers, range(8, 72, 8))
    bound = calibrate_distance(curves["validation"], 0.05)
    assert bound is not None
    held_out = next(p for p in curves["test"] if p.max_distance == bound)
    assert held_out.error_fraction <= 0.05
    assert held_out.similar_fraction > 0.3


def _noisy_twice(images: np.ndarray) -> np.ndarray:
    """Each picture, and later once more with Gaussian noise of 12 grey levels."""
    noise = np.random.default_rng(0).normal(0, 12, images.shape)
    return np.concatenate([images, np.clip(images + noise, 0, 255).astype(np.uint8)])
