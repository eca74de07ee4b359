"""The way of requests through device, uplink, edge, wan and cloud, in N environments at once.

    decided --> device CPU --> uplink --> edge CPU --> wan --> cloud CPU --> wan down --> uplink down --> answer
                (p > 0)        (p < end)  (p < q)      (q < end)

Each of the five resources serves first come first served, and nothing flows back, so it is exact to let time
pass resource by resource: with every hand-over to the uplink before instant t known, all of its transmissions
follow; from these all arrivals at the edge before t; and so on.  A request waits in the list of the resource
that it will reach next until time gets there.  Requests may overtake one another freely.

As in runtime/protocol: only durations cross hosts, so a node lets a request expire when it has had it for as
long as the sender gave it, the link's time not deducted; expired work is dropped when its turn comes; work begun
is completed; what came too late is not passed on.  A training job (envs/simulation/job.py) shares device and uplink:
its rounds feed back, so the uplink is followed from one update to the next.  Simplified: results do not queue on
their way down (they are small), and a profile's overheads lie half before the hand-over that they belong to and half
after the result.
What the device knows already never gets here (envs/simulation/device.py); with a cache the edge looks everybody up
first (envs/simulation/edge_cache.py).
"""

from __future__ import annotations

import numpy as np

from envs.simulation.device import Device
from envs.simulation.edge_cache import EdgeCache, EdgeCacheState
from envs.simulation.episodes import Playing
from envs.simulation.frame_filter import Skips
from envs.simulation.job import NEVER, JobRun
from envs.simulation.queueing import Line
from envs.simulation.rows import NOTHING, Requests, Reuse, Row, Waiting
from envs.simulation.setup import Setup
from runtime.messages import TauSpec

Reached = tuple[np.ndarray, np.ndarray]
"""Requests that have begun at a resource, and when they reached what lies behind it (links) or it (CPUs); in order per environment."""

NOBODY: Reached = (NOTHING, np.empty(0))


class Network:
    """Queues of N environments."""

    def __init__(self, setup: Setup, num_envs: int) -> None:
        self._setup = setup
        self.requests = Requests(setup.scenario.workload.num_requests, num_envs)
        self._busy = np.zeros((6, num_envs))
        # until when each resource is busy with what has reached it: links also in bytes (envs/simulation/links.py), the edge
        # without its neighbours' jobs (envs/simulation/background.py)
        self._uplink_busy_s, self._edge_busy_s, self._wan_busy_s, self._cloud_busy_s = self._busy[:4]
        self._uplink_busy, self._wan_busy = self._busy[4:]
        self._to_uplink, self._to_edge, self._to_wan, self._to_cloud = self._lists = [Waiting(self.requests) for _ in range(4)]
        self.job = JobRun(setup.job, num_envs) if setup.job is not None else None
        self.device = Device(setup, self.requests, self._to_uplink, self.job)
        self._edge_cache = EdgeCache(setup, self.requests) if setup.edge_cache is not None else None
        if self._edge_cache is not None:
            self._lists = [*self._lists, *self._edge_cache.lists]

    def start(self, playing: Playing, tau: TauSpec | None) -> None:
        """Empty all queues; play these episodes from now on.  `tau`: as of JobRun."""
        self._playing = playing
        self._busy[:] = 0.0
        self.device.start(playing)
        if self._edge_cache is not None:
            self._edge_cache.start()
        if self.job is not None:
            self.job.start(playing.last_s, tau)
        for waiting in self._lists:
            waiting.clear()

    def decide(self, index: int, given: np.ndarray, actions: np.ndarray, refused: np.ndarray, skips: Skips | None) -> np.ndarray:
        """See Device."""
        if self._edge_cache is not None:
            self._edge_cache.bring(index, given, actions)
        return self.device.decide(index, given, actions, refused, skips)

    # ------------------------------------------------------------ time passes

    def advance(self, until_s: np.ndarray) -> tuple[Reached, Reached, Reached, Reached]:
        """Let everything happen up to `until_s` [N] if nothing else is decided by then: at uplink, edge, wan, cloud."""
        on_uplink = self._send_up(*self._to_uplink.due(until_s)) if self.job is None else self._share_uplink(self.job, until_s)
        return on_uplink, *self._beyond_uplink(until_s)

    def advance_requests(self, until_s: np.ndarray) -> None:
        """The same without the training job, as if it stood still: to look ahead, between `save` and `restore`."""
        self._send_up(*self._to_uplink.due(until_s))
        self._beyond_uplink(until_s)

    def _share_uplink(self, job: JobRun, until_s: np.ndarray) -> Reached:
        """Requests and updates in the order in which they are handed over; an update's end decides when the next one comes."""
        reached = []
        while True:
            job.compute(until_s, self.device.busy_s)
            reached.append(self._send_up(*self._to_uplink.due(np.minimum(until_s, job.handed_s))))
            updating = ((job.handed_s <= until_s) & (job.handed_s < NEVER)).nonzero()[0]
            if len(updating) == 0:
                return _joined(reached)
            self._send_update(job, updating)

    def _send_update(self, job: JobRun, envs: np.ndarray) -> None:
        setup, up, down = self._setup, self._playing.paces["uplink", "up"], self._playing.paces["uplink", "down"]
        handed_s = job.handed_s[envs]
        end = np.maximum(up.bytes_by(handed_s, envs), self._uplink_busy[envs]) + job.up_bytes
        sent_s = up.time_of(end, envs)
        sending_s = sent_s - np.maximum(handed_s, self._uplink_busy_s[envs])
        self._uplink_busy[envs], self._uplink_busy_s[envs] = end, sent_s
        aggregated_s = sent_s + setup.uplink.delay_s + job.job.aggregation_s
        landed_s = down.time_of(down.bytes_by(aggregated_s, envs) + job.job.down_bytes, envs) + setup.uplink.delay_s
        job.sent(envs, sending_s, sent_s + 2 * setup.uplink.delay_s, aggregated_s, landed_s)

    def _beyond_uplink(self, until_s: np.ndarray) -> tuple[Reached, Reached, Reached]:
        if self._edge_cache is None:
            return self._above(until_s)
        return self._above_with_cache(self._edge_cache, until_s)

    def _above(self, until_s: np.ndarray) -> tuple[Reached, Reached, Reached]:
        """Let it happen at edge, wan and cloud."""
        at_edge = self._compute_at_edge(*self._to_edge.due(until_s))
        on_wan = self._send_on(*self._to_wan.due(until_s))
        at_cloud = self._compute_in_cloud(*self._to_cloud.due(until_s))
        return at_edge, on_wan, at_cloud

    def _above_with_cache(self, cache: EdgeCache, until_s: np.ndarray) -> tuple[Reached, Reached, Reached]:
        """The same, pausing wherever somebody is looked up: what is known then depends on all that happened before."""
        at_edge, on_wan, at_cloud = [], [], []
        while True:
            next_s = cache.next_s(until_s)
            edge, wan, cloud = self._above(until_s if next_s is None else next_s)
            at_edge.append(edge)
            on_wan.append(wan)
            at_cloud.append(cloud)
            if next_s is None:
                return _joined(at_edge), _joined(on_wan), _joined(at_cloud)
            self._look_up(cache, next_s)

    def _look_up(self, cache: EdgeCache, at_s: np.ndarray) -> None:
        entries, looked_s, hit, sources = cache.look_up(at_s)
        requests, hits = self.requests, entries[hit]
        requests.reused[hits], requests.wrong[hits] = Reuse.edge_cache, requests.wrong[sources]
        requests.table[Row.cost_if_answered][hits] = self._setup.error_cost * requests.wrong[hits] + self._setup.receiving_cost
        self._return(hits, looked_s[hit])
        misses = entries[~hit]
        self._enter_edge(misses, looked_s[~hit], requests.table[Row.on_edge][misses])

    def _line_up(self, due: np.ndarray, at_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, Line]:
        line = Line(due & self.requests.env_mask, at_s)
        return due[line.order], at_s[line.order], line

    def _send_up(self, due: np.ndarray, handed_s: np.ndarray) -> Reached:
        if len(due) == 0:
            return NOBODY
        due, handed_s, line = self._line_up(due, handed_s)
        table, pace, envs = self.requests.table, self._playing.paces["uplink", "up"], line.servers
        on_edge, _, num_bytes, _, flight_s = table[Row.on_edge : Row.uplink_flight_s + 1].take(due, axis=1)
        begin = line.begin(pace.bytes_by(handed_s, envs), num_bytes, self._uplink_busy)
        sent_s = pace.time_of(begin + num_bytes, envs)
        at_s = sent_s + flight_s
        table[Row.sending_s][due] = sent_s - np.maximum(handed_s, line.previous(sent_s, self._uplink_busy_s))
        self._uplink_busy_s[envs] = sent_s
        table[Row.edge_at_s][due] = at_s
        table[Row.edge_expires_s][due] = at_s + (table[Row.expires_s][due] - handed_s)
        if self._edge_cache is None:
            self._enter_edge(due, at_s, on_edge)
        else:
            self._edge_cache.arrive(due, at_s)
        return due, at_s

    def _enter_edge(self, entries: np.ndarray, at_s: np.ndarray, on_edge: np.ndarray) -> None:
        """The edge knows no answer to these: it computes those `on_edge`, and passes on the others as they came."""
        self.requests.table[Row.edge_end_s][entries] = at_s
        computes = on_edge > 0
        self._to_edge.add(entries[computes], at_s[computes])
        self._hand_to_wan(entries[~computes])

    def _compute_at_edge(self, due: np.ndarray, at_s: np.ndarray) -> Reached:
        if len(due) == 0:
            return NOBODY
        due, at_s, line = self._line_up(due, at_s)
        table = self.requests.table
        expires_s, (work_s, _, _, goes_on) = table[Row.edge_expires_s][due], table[Row.edge_s : Row.goes_on + 1].take(due, axis=1)
        jobs_s, alone_s = self._playing.background.by(at_s, line.servers)
        start_s, end_s = line.serve(np.maximum(at_s, alone_s) - jobs_s, work_s, self._edge_busy_s, expires_s - jobs_s)
        end_s = end_s + jobs_s
        table[Row.edge_start_s][due], table[Row.edge_end_s][due], table[Row.edge_jobs_s][due] = start_s + jobs_s, end_s, jobs_s
        ends_here = goes_on == 0
        self._hand_to_wan(due[~ends_here])
        ends_here &= end_s < expires_s
        self._answer(due[ends_here], end_s[ends_here])
        return due, at_s

    def _hand_to_wan(self, leaving: np.ndarray) -> None:
        if len(leaving):
            table = self.requests.table
            handed_s = table[Row.edge_end_s][leaving] + self._setup.wan_half_s
            table[Row.wan_at_s][leaving] = handed_s
            in_time = handed_s < table[Row.edge_expires_s][leaving]
            self._to_wan.add(leaving[in_time], handed_s[in_time])

    def _send_on(self, due: np.ndarray, handed_s: np.ndarray) -> Reached:
        if len(due) == 0:
            return NOBODY
        due, handed_s, line = self._line_up(due, handed_s)
        table, pace, envs = self.requests.table, self._playing.paces["wan", "up"], line.servers
        num_bytes = table[Row.wan_bytes][due]
        begin = line.begin(pace.bytes_by(handed_s, envs), num_bytes, self._wan_busy)
        sent_s = pace.time_of(begin + num_bytes, envs)
        at_s = sent_s + table[Row.wan_flight_s][due]
        table[Row.wan_sending_s][due] = sent_s - np.maximum(handed_s, line.previous(sent_s, self._wan_busy_s))
        self._wan_busy_s[envs] = sent_s
        table[Row.cloud_at_s][due] = at_s
        table[Row.cloud_expires_s][due] = at_s + (table[Row.edge_expires_s][due] - handed_s)
        self._to_cloud.add(due, at_s)
        return due, at_s

    def _compute_in_cloud(self, due: np.ndarray, at_s: np.ndarray) -> Reached:
        if len(due) == 0:
            return NOBODY
        due, at_s, line = self._line_up(due, at_s)
        table, expires_s = self.requests.table, self.requests.table[Row.cloud_expires_s][due]
        start_s, end_s = line.serve(at_s, table[Row.cloud_s][due], self._cloud_busy_s, expires_s)
        table[Row.cloud_start_s][due], table[Row.cloud_end_s][due] = start_s, end_s
        answered = end_s < expires_s
        if np.count_nonzero(answered):
            answers = due[answered]
            self._answer(answers, self._down("wan", answers, Row.wan_return_s, end_s[answered]) + self._setup.wan_half_s)
        return due, at_s

    # ------------------------------------------------------------ the way back

    def _answer(self, answered: np.ndarray, at_edge_s: np.ndarray) -> None:
        """Results that the edge has at `at_edge_s` are kept there, and go to the device."""
        if self._edge_cache is not None:
            self._edge_cache.answered(answered, at_edge_s)
        self._return(answered, at_edge_s)

    def _return(self, answered: np.ndarray, at_edge_s: np.ndarray) -> None:
        if len(answered):
            table = self.requests.table
            at_device_s = self._down("uplink", answered, Row.uplink_return_s, at_edge_s)
            finish_s = at_device_s + (self._setup.uplink_half_s + self._setup.base_s / 2)
            table[Row.down_at_s][answered], table[Row.finish_s][answered] = at_edge_s, finish_s
            table[Row.end_s][answered] = np.minimum(finish_s, table[Row.expires_s][answered])

    def _down(self, link: str, answered: np.ndarray, flight_s: int, at_s: np.ndarray) -> np.ndarray:
        """When results handed to a link downwards at `at_s` have landed."""
        pace, envs = self._playing.paces[link, "down"], answered & self.requests.env_mask
        sent_s = pace.time_of(pace.bytes_by(at_s, envs) + self._setup.result_bytes, envs)
        landed_s: np.ndarray = sent_s + self.requests.table[flight_s][answered]
        return landed_s

    # ------------------------------------------------------------ running ahead

    def save(self) -> NetworkState:
        """All that `advance` changes, apart from requests' numbers."""
        lists = [(waiting.entries, waiting.at_s) for waiting in self._lists]
        return self._busy.copy(), lists, self._edge_cache.save() if self._edge_cache is not None else None

    def restore(self, state: NetworkState) -> None:
        """Take back what happened since `save`."""
        self._busy[:], saved, cache = state
        if self._edge_cache is not None and cache is not None:
            self._edge_cache.restore(cache)
        for waiting, (entries, at_s) in zip(self._lists, saved, strict=True):
            waiting.entries, waiting.at_s = entries, at_s


NetworkState = tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]], EdgeCacheState | None]


def _joined(parts: list[Reached]) -> Reached:
    """In their order, which is that of time in each environment."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([entries for entries, _ in parts]), np.concatenate([at_s for _, at_s in parts])
