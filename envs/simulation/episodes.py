"""Episodes drawn ahead, and the ones being played: everything that happens whatever is decided.

A pool holds P episodes drawn from P seeds.  Starting N environments only picks from it, so a reset inside a
training step costs nothing.  A first episode is exactly its seed's; later ones pair the workload and the
neighbours of one pooled seed with the links of another, which makes P^2 episodes of P drawings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.simulation.background import Background
from envs.simulation.links import Pace, draw_pace
from envs.simulation.setup import Setup
from envs.workload import draw_background, draw_requests
from runtime.protocol.device_machine import ARRIVAL_SMOOTHING_S
from runtime.rates import jitter_fraction

_PHASE_SALT = 13


class Given:
    """Rows of `Playing.given`: what is known of a request before it is decided."""

    arrival_s, expires_s, arrival_rate_per_s, edge_seen_s, cloud_seen_s, jobs_seen_s, jobs_alone_s, example = range(8)
    perturbed = 8
    # *_seen_s: when the report was true that the device holds on the request's arrival, of the edge and of the cloud;
    # jobs_seen_s: work of all neighbours' jobs that had come to the edge by then; jobs_alone_s: when it would be done, alone
    times = slice(0, 2)
    num = 9


class Pool:
    """P drawn episodes of R requests."""

    def __init__(self, setup: Setup, seeds: Sequence[int]) -> None:
        self.num, self.num_requests = len(seeds), setup.scenario.workload.num_requests
        drawn = [draw_requests(setup.scenario.workload, seed, setup.answers.num_examples) for seed in seeds]
        arrival_s = np.array([requests.arrival_s for requests in drawn])
        last_s = arrival_s[:, -1]
        jobs = [draw_background(setup.scenario.background, seed, until_s) for seed, until_s in zip(seeds, last_s.tolist(), strict=True)]
        self.background = Background(jobs, setup.background_s)
        phase_s = setup.period_s * np.array([np.random.default_rng([seed & 0xFFFFFFFF, _PHASE_SALT]).random(2) for seed in seeds])
        self.phase_s = phase_s
        """[P, 2] when the device and the edge send their first ping."""
        given = np.zeros((Given.num, self.num, self.num_requests))
        given[Given.arrival_s] = arrival_s
        given[Given.expires_s] = arrival_s + setup.deadline_s
        given[Given.arrival_rate_per_s] = smoothed_rate(arrival_s)
        given[Given.example] = [requests.example for requests in drawn]
        given[Given.perturbed] = [requests.perturbed for requests in drawn]
        given[Given.edge_seen_s] = edge_s = _last_sample(arrival_s, phase_s[:, :1], setup.period_s, setup.uplink.delay_s)
        given[Given.cloud_seen_s] = _last_sample(edge_s, phase_s[:, 1:], setup.period_s, setup.wan.delay_s)
        given[Given.jobs_seen_s], given[Given.jobs_alone_s] = self.background.all_by(np.maximum(edge_s, 0.0))
        self.given = np.ascontiguousarray(given.transpose(1, 2, 0)).reshape(-1, Given.num)
        """[P * R, Given.num]"""
        self.frames = setup.frames.draw(seeds, drawn) if setup.frames is not None else None
        """Thumbnails [U, rows, columns], and [P * R]: each request's; only for a filter."""
        self._draw_links(setup, seeds)

    def _draw_links(self, setup: Setup, seeds: Sequence[int]) -> None:
        """Rates of both links both ways, and how long each message is on its way, [P * R, 4] in the order of Row.flights."""
        ids = np.arange(self.num_requests)
        self.paces: dict[tuple[str, str], Pace] = {}
        flights = []
        for direction in ("up", "down"):
            for link, way in (("uplink", setup.uplink), ("wan", setup.wan)):
                self.paces[link, direction] = draw_pace(way.rate if direction == "up" else way.down_rate, seeds, link, direction)
                shares = np.array([jitter_fraction(seed, link, direction, ids) for seed in seeds])
                flights.append(way.delay_s + way.jitter_s * shares)
        self.flights = np.stack(flights, axis=-1).reshape(-1, len(flights))


class Playing:
    """The episodes that N environments play: the workload of pooled episode `workloads[n]` over the links of `links[n]`."""

    def __init__(self, pool: Pool, workloads: np.ndarray, links: np.ndarray) -> None:
        self._pool = pool
        self._first_request, self._first_flight = workloads * pool.num_requests, links * pool.num_requests
        self.background, self.paces = pool.background, pool.paces
        self.background.select(workloads)
        for pace in self.paces.values():
            pace.select(links)
        self.phase_s = np.ascontiguousarray(pool.phase_s[workloads].T)
        """[2, N]"""
        self.last_s = np.ascontiguousarray(pool.given[self._first_request + pool.num_requests - 1, Given.arrival_s])
        """[N] when the last requests arrive."""

    def given(self, index: int) -> np.ndarray:
        """[Given.num, N] of request `index`."""
        return np.ascontiguousarray(self._pool.given.take(self._first_request + index, axis=0).T)

    def thumbnails(self, indices: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """[n, rows, columns] what these requests' frames look like to a filter."""
        assert self._pool.frames is not None
        thumbnails, places = self._pool.frames
        chosen: np.ndarray = thumbnails[places[self._first_request[envs] + indices]]
        return chosen

    def examples(self, indices: np.ndarray, envs: np.ndarray) -> np.ndarray:
        """int64 [n] which pictures these requests bring."""
        examples: np.ndarray = self._pool.given[self._first_request[envs] + indices, Given.example].astype(np.int64)
        return examples

    def flights(self, index: int) -> np.ndarray:
        """[4, N] seconds that messages of request `index` are on their way; rows as Row.flights."""
        flights: np.ndarray = self._pool.flights.take(self._first_flight + index, axis=0).T
        return flights


def _last_sample(now_s: np.ndarray, phase_s: np.ndarray, period_s: float, delay_s: float) -> np.ndarray:
    """When the latest report to have come back by `now_s` was true.

    A ping sent at phase + j * period samples the node above one delay later and is back another delay later.
    Pings go on between episodes, so there always was an earlier one.
    """
    sampled_s: np.ndarray = phase_s + np.floor((now_s - phase_s - 2 * delay_s) / period_s) * period_s + delay_s
    return sampled_s


def smoothed_rate(arrival_s: np.ndarray) -> np.ndarray:
    """The device's estimate of its arrival rate at each arrival, that one included: [P, R] -> [P, R].

    rate <- rate * exp(-gap / T) + 1 / T at each arrival, as in runtime/protocol/device_machine.py.
    """
    keep = np.exp(-np.diff(arrival_s, axis=1) / ARRIVAL_SMOOTHING_S)
    rate = np.empty_like(arrival_s)
    rate[:, 0] = 1 / ARRIVAL_SMOOTHING_S
    for index in range(1, arrival_s.shape[1]):
        rate[:, index] = rate[:, index - 1] * keep[:, index - 1] + 1 / ARRIVAL_SMOOTHING_S
    return rate
