"""The vectorised links against the live runtime's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from envs.simulation.links import ConstantPace, TracePace, draw_pace
from runtime.links import RateTrace
from runtime.rates import CellularRate, ConstantRate, draw_trace

CASES = {
    "cellular": CellularRate(median_bytes_per_s=400_000, sigma=0.6),
    "wild": CellularRate(median_bytes_per_s=50_000, sigma=3.0, fade_every_s=2.0, fade_s=2.0, fade_factor=0.01),
    "outages": CellularRate(median_bytes_per_s=400_000, fade_every_s=5.0, fade_s=5.0, fade_factor=1e-9),
}


@pytest.mark.parametrize("name", CASES)
def test_many_traces_are_followed_as_one_is(name: str) -> None:
    """Bytes by a time, and the time of bytes, are those of runtime.links.RateTrace, also after the trace has started again."""
    traces = np.array([draw_trace(CASES[name], seed, "uplink", "up") for seed in range(5)])
    pace, rng = TracePace(traces), np.random.default_rng(1)
    episodes = np.array([3, 0, 4, 4])
    pace.select(episodes)
    envs = rng.integers(len(episodes), size=400)
    at_s = np.concatenate([rng.random(200) * 20, rng.random(190) * 400, np.arange(10) * 0.1])
    twins = [RateTrace(traces[episodes[env]]) for env in envs]
    num_bytes = np.array([twin.bytes_until(at) for twin, at in zip(twins, at_s, strict=True)])
    np.testing.assert_allclose(pace.bytes_by(at_s, envs), num_bytes, rtol=1e-12, atol=1e-6)
    more = num_bytes + rng.random(400) * 1e5
    times = np.array([twin.time_of(size) for twin, size in zip(twins, more, strict=True)])
    np.testing.assert_allclose(pace.time_of(more, envs), times, rtol=1e-11, atol=1e-9)


def test_the_rate_now_is_the_trace_s() -> None:
    """`rate_at` reads the cell, and starts again after the trace's end."""
    traces = np.arange(1.0, 2401.0).reshape(2, 1200)
    pace = TracePace(traces)
    pace.select(np.array([1, 0]))
    assert pace.rate_at(np.array([0.05, 0.15, 120.05]), np.array([0, 1, 1])).tolist() == [1201.0, 2.0, 1.0]


def test_a_constant_rate_needs_no_trace() -> None:
    """Nothing is drawn for a constant rate, and its arithmetic is a product."""
    pace = draw_pace(ConstantRate(bytes_per_s=1000.0), [1, 2], "wan", "up")
    assert isinstance(pace, ConstantPace)
    envs = np.array([0, 1])
    assert pace.bytes_by(np.array([1.0, 2.0]), envs).tolist() == [1000.0, 2000.0]
    assert pace.time_of(np.array([500.0, 1000.0]), envs).tolist() == [0.5, 1.0]
    assert pace.rate_at(np.array([1.0, 2.0]), envs) == 1000.0
