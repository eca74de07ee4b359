"""Emulated links keep their promises, and the estimator finds out what they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidConfig
from runtime.links import EmulatedLink, LinkEstimator, RateTrace
from runtime.rates import GRID_S, TRACE_S, CellularRate, ConstantRate, TraceRate, draw_trace, jitter_fraction, one_jitter_fraction

CELLULAR = CellularRate(median_bytes_per_s=5e5)


def link(rate: object = ConstantRate(bytes_per_s=1000.0), delay_s: float = 0.1, jitter_s: float = 0.0) -> EmulatedLink:
    return EmulatedLink(rate, delay_s, jitter_s, "uplink", "up")  # type: ignore[arg-type]


@given(st.integers(0, 50), st.floats(0.0, 400.0))
def test_time_of_inverts_bytes_until(seed: int, at_s: float) -> None:
    """time_of(bytes_until(t)) == t, within the trace and around its repeats."""
    trace = RateTrace(draw_trace(CELLULAR, seed, "uplink", "up"))
    assert trace.time_of(trace.bytes_until(at_s)) == pytest.approx(at_s, abs=1e-6)


def test_bytes_until_is_the_integral_of_the_rate() -> None:
    """Against a plain sum over cells, and a whole period more after one repeat."""
    rates = draw_trace(CELLULAR, 3, "uplink", "up")
    trace = RateTrace(rates)
    assert trace.bytes_until(1.25) == pytest.approx(rates[:12].sum() * GRID_S + rates[12] * 0.05)
    assert trace.bytes_until(TRACE_S + 1.25) == pytest.approx(rates.sum() * GRID_S + trace.bytes_until(1.25))


def test_transfers_queue_behind_each_other() -> None:
    """1000 B/s, 100 B each, by hand: the second waits for the first, both then travel 0.1 s."""
    up = link()
    first, second = up.transfer(0, 100, 5.0), up.transfer(1, 100, 5.02)
    assert first.arrives_at_s == pytest.approx(5.2)
    assert second.arrives_at_s == pytest.approx(5.3)
    assert second.sending_s == pytest.approx(0.1)


def test_a_transfer_crosses_a_change_of_rate() -> None:
    """Half at one rate, half at the next: the air time is the integral's inverse."""
    up = link(CELLULAR)
    up.restart(seed=4, epoch_s=100.0)
    rates = draw_trace(CELLULAR, 4, "uplink", "up")
    size = rates[0] * GRID_S / 2 + rates[1] * GRID_S / 2
    assert up.transfer(0, round(size), 100.05).sending_s == pytest.approx(GRID_S, rel=1e-3)


def test_control_messages_see_only_the_delay() -> None:
    """A ping does not wait behind payload."""
    up = link()
    up.transfer(0, 10_000, 0.0)
    assert up.control_arrives_at_s(1.0) == pytest.approx(1.1)


def test_a_trace_that_is_not_there_is_said_when_the_link_is_made() -> None:
    """Not when the first payload is sent: by then a node serves."""
    with pytest.raises(InvalidConfig, match="nowhere"):
        link(TraceRate(path="/nowhere/trace.jsonl"))


def test_restart_repeats_the_episode_exactly() -> None:
    """The same seed, the same transfers, the same instants: every policy meets the same link."""
    up = link(CELLULAR, jitter_s=0.02)
    runs = []
    for epoch_s in (0.0, 1000.0):
        up.restart(seed=9, epoch_s=epoch_s)
        runs.append([up.transfer(k, 5000 + k, epoch_s + 0.01 * k).arrives_at_s - epoch_s for k in range(50)])
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-9)


def test_jitter_depends_on_the_request_within_its_episode() -> None:
    """Only the low bits of the wire id count, so an episode's number does not change its jitter."""
    up = link(jitter_s=0.02)
    up.restart(seed=1, epoch_s=0.0)
    first = up.transfer(7, 10, 0.0).arrives_at_s
    up.restart(seed=1, epoch_s=0.0)
    assert up.transfer((33 << 20) | 7, 10, 0.0).arrives_at_s == first


@given(seed=st.integers(0, 2**63), request_id=st.integers(0, 2**20 - 1), link_name=st.sampled_from(["uplink", "wan:edge-1"]))
def test_one_message_s_jitter_is_that_of_many(seed: int, request_id: int, link_name: str) -> None:
    """To the last bit: what senders compute one by one, the vectorised simulator computes at once."""
    many = jitter_fraction(seed, link_name, "down", np.array([request_id]))
    assert one_jitter_fraction(seed, link_name, "down", request_id) == many[0]


def test_jitter_is_uniform_and_differs_between_directions() -> None:
    """Mean 1/2, variance 1/12, no correlation between up and down."""
    ids = np.arange(20_000)
    up, down = jitter_fraction(3, "uplink", "up", ids), jitter_fraction(3, "uplink", "down", ids)
    assert up.mean() == pytest.approx(0.5, abs=0.01)
    assert up.var() == pytest.approx(1 / 12, rel=0.05)
    assert abs(np.corrcoef(up, down)[0, 1]) < 0.03


def test_estimator_trusts_a_link_that_tells_its_air_time() -> None:
    """Rate = bytes over the time on the air, known when acknowledged."""
    estimator = LinkEstimator()
    estimator.on_sent(1, 1000, 0.0, sending_s=0.1)
    assert estimator.measured_at_s is None
    estimator.on_ack(1, 0.3)
    assert estimator.rate_bytes_per_s == pytest.approx(10_000)
    assert estimator.age_s(1.3) == pytest.approx(1.0)


@given(rate=st.floats(1e4, 1e7), delay_s=st.floats(0.0, 0.05), sizes=st.lists(st.integers(2000, 60000), min_size=1, max_size=8))
def test_estimator_finds_a_real_links_rate_from_acknowledgements(rate: float, delay_s: float, sizes: list[int]) -> None:
    """On a FIFO link that tells nothing, pings and acknowledgements are enough, also back to back."""
    estimator = LinkEstimator()
    estimator.on_pong(2 * delay_s)
    free_s = 0.0
    arrivals = []
    for index, size in enumerate(sizes):
        estimator.on_sent(index, size, 0.0, sending_s=None)
        free_s += size / rate
        arrivals.append(free_s + 2 * delay_s)
    for index, at_s in enumerate(arrivals):
        estimator.on_ack(index, at_s)
    assert estimator.rate_bytes_per_s == pytest.approx(rate, rel=1e-3)


def test_delay_estimate_follows_the_smallest_ping() -> None:
    """A slow ping moves it little, a quicker one at once."""
    estimator = LinkEstimator()
    for round_trip_s in (0.04, 0.10, 0.02):
        estimator.on_pong(round_trip_s)
    assert estimator.delay_s == pytest.approx(0.01)
