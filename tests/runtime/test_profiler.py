"""Measurements that need no running nodes."""

from __future__ import annotations

import numpy as np

from runtime.profiler import measure_lookup_s


def test_looking_at_an_input_takes_time() -> None:
    """The quickest of real look-ups, so above nothing and far below a request."""
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 1, 64, 64)).astype(np.uint8)
    assert 0 < measure_lookup_s(images, 1.0) < 0.1
