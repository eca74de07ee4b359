"""Queues at many servers at once against one loop over one queue."""

from __future__ import annotations

import numpy as np
import pytest

from envs.simulation.background import Background
from envs.simulation.queueing import Line


def one_by_one(arrive: np.ndarray, work: np.ndarray, busy: float, expires: np.ndarray) -> tuple[list[float], list[float]]:
    """Lindley's recursion as it is written down."""
    begins, ends = [], []
    for arrival, seconds, expiry in zip(arrive, work, expires, strict=True):
        begin = max(arrival, busy)
        busy = begin + (seconds if begin < expiry else 0.0)
        begins.append(begin)
        ends.append(busy)
    return begins, ends


@pytest.mark.parametrize("num", [1, 7, 200])
@pytest.mark.parametrize("patience_s", [0.3, np.inf])
def test_every_server_is_served_first_come_first_served(num: int, patience_s: float) -> None:
    """In each server's line, begins and ends are those of a loop, expired work is dropped, and the server stays busy until the last end."""
    rng, num_servers = np.random.default_rng([num, int(patience_s < 1)]), 40
    servers, arrive, work = rng.integers(num_servers, size=num), rng.random(num), rng.random(num) * 0.2
    busy = rng.random(num_servers) * 0.3
    expected_busy = busy.copy()
    expires = arrive + patience_s
    line = Line(servers, arrive)
    order = line.order
    begin, end = line.serve(arrive[order], work[order], busy, expires[order])
    assert line.servers.tolist() == servers[order].tolist()
    for server in set(servers.tolist()):
        mine = np.flatnonzero(servers == server)
        mine = mine[np.argsort(arrive[mine])]
        begins, ends = one_by_one(arrive[mine], work[mine], expected_busy[server], expires[mine])
        chosen = line.servers == server
        np.testing.assert_allclose(begin[chosen], begins, rtol=0, atol=1e-12)
        np.testing.assert_allclose(end[chosen], ends, rtol=0, atol=1e-12)
        np.testing.assert_allclose(line.previous(end, expected_busy)[chosen], [expected_busy[server], *ends[:-1]], rtol=0, atol=1e-12)
        expected_busy[server] = ends[-1]
    np.testing.assert_allclose(busy, expected_busy, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num", [1, 200])
def test_without_expiry_serving_is_beginning(num: int) -> None:
    """`begin` and `serve` agree when nothing expires."""
    rng = np.random.default_rng(num)
    servers, arrive, work = rng.integers(20, size=num), rng.random(num), rng.random(num)
    line, busy = Line(servers, arrive), np.zeros(20)
    also_busy = busy.copy()
    begin = line.begin(arrive[line.order], work[line.order], busy)
    assert begin.tolist() == line.serve(arrive[line.order], work[line.order], also_busy, np.full(num, np.inf))[0].tolist()
    assert busy.tolist() == also_busy.tolist()


def test_neighbours_are_counted_and_queued_as_if_one_by_one() -> None:
    """For any instant: the work that has come, and when the edge would be done with it alone."""
    rng, service_s = np.random.default_rng(3), 0.01
    arrivals = [np.sort(rng.random(count)) * 3 for count in (150, 0, 40)]
    background = Background(arrivals, service_s)
    background.select(np.array([2, 0, 1]))
    envs, at_s = rng.integers(3, size=300), rng.random(300) * 4
    work_s, alone_s = background.by(at_s, envs)
    for env, at, work, alone in zip(envs, at_s, work_s, alone_s, strict=True):
        come = arrivals[[2, 0, 1][env]]
        come = come[come <= at]
        assert work == pytest.approx(len(come) * service_s)
        expected = one_by_one(come, np.full(len(come), service_s), -np.inf, np.full(len(come), np.inf))[1][-1] if len(come) else -np.inf
        assert alone == pytest.approx(expected, abs=1e-9)
    work_s, alone_s = background.all_by(np.tile(np.linspace(0, 4, 50), (3, 1)))
    assert work_s[1].tolist() == [0.0] * 50
    assert work_s[0, -1] == pytest.approx(150 * service_s)
    assert alone_s[0, -1] >= arrivals[0][-1] + service_s


def test_no_neighbours_at_all() -> None:
    """A scenario without background has none to wait for."""
    work_s, alone_s = Background([np.empty(0)], 0.01).by(np.array([0.0, 5.0]), np.array([0, 0]))
    assert work_s.tolist() == [0.0, 0.0]
    assert alone_s.tolist() == [-np.inf, -np.inf]
