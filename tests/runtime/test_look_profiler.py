"""How long looks take, measured here."""

from __future__ import annotations

import numpy as np

from runtime.look_profiler import measure_lookup_s, measure_payload_lookup_s, measure_thumbnail_s


def test_looking_at_an_input_takes_time() -> None:
    """The quickest of real looks, so above nothing and far below a request."""
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 1, 64, 64)).astype(np.uint8)
    assert 0 < measure_lookup_s(images, 1.0) < 0.1
    assert 0 < measure_thumbnail_s(images, 32, 1.0) < 0.1


def test_what_is_no_picture_has_no_thumbnail() -> None:
    """And so no time for it."""
    assert measure_thumbnail_s(np.zeros((3, 7), dtype=np.float32), 32, 1.0) == 0


def test_larger_payloads_take_longer() -> None:
    """By so much for each byte; neither part is negative."""
    fixed_s, per_byte_s = measure_payload_lookup_s(1.0)
    assert 0 <= fixed_s < 0.1
    assert 0 < per_byte_s < 1e-6
