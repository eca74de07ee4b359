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
its rounds feed back, so the uplink is followed from one update to the next.  Simplified: results do not queue on their way down (they are
small), and a profile's overheads lie half before the hand-over that they belong to and half after the result.
"""

from __future__ import annotations

import numpy as np

from envs.simulation.device_cache import DeviceCache
from envs.simulation.episodes import Given, Playing
from envs.simulation.job import NEVER, JobRun
from envs.simulation.queueing import Line
from envs.simulation.rows import NOTHING, Requests, Row, Waiting
from envs.simulation.setup import Need, Setup

Reached = tuple[np.ndarray, np.ndarray]
"""Requests that have begun at a resource, and when they reached what lies behind it (links) or it (CPUs); in order per environment."""

NOBODY: Reached = (NOTHING, np.empty(0))


class Network:
    """Queues of N environments."""

    def __init__(self, setup: Setup, num_envs: int) -> None:
        self._setup = setup
        self.requests = Requests(setup.scenario.workload.num_requests, num_envs)
        self._busy = np.zeros((7, num_envs))
        # until when each resource is busy with what has reached it: links also in bytes (envs/simulation/links.py), the edge
        # without its neighbours' jobs (envs/simulation/background.py)
        self.device_busy_s, self._uplink_busy_s, self._edge_busy_s, self._wan_busy_s, self._cloud_busy_s = self._busy[:5]
        self._uplink_busy, self._wan_busy = self._busy[5:]
        self._to_uplink, self._to_edge, self._to_wan, self._to_cloud = self._lists = [Waiting(self.requests) for _ in range(4)]
        self.cache = DeviceCache(setup, self.requests) if setup.device_cache is not None else None
        self.job = JobRun(setup.job, num_envs) if setup.job is not None else None
        self.doomed = Waiting(self.requests)
        """Requests that will have expired by the time the device could start them; until then they sit in its queue."""

    def start(self, playing: Playing) -> None:
        """Empty all queues; play these episodes from now on."""
        self._playing = playing
        self._busy[:] = 0.0
        if self.cache is not None:
            self.cache.start()
        if self.job is not None:
            self.job.start(playing.last_s)
        for waiting in (*self._lists, self.doomed):
            waiting.clear()

    # ------------------------------------------------------------ a decision

    def decide(self, index: int, given: np.ndarray, actions: np.ndarray, refused: np.ndarray) -> np.ndarray:
        """Request `index` of every environment is decided, `actions` [N]; it does not enter where `refused` [N].

        `given` as of Playing.  Returns what the decisions need, [Need.num, N], nothing where refused.
        """
        setup, table, now = self._setup, self.requests.table, self.requests.at(index)
        examples = given[Given.example].astype(np.int64)
        ways = setup.answers.ways(actions, examples)
        needs = setup.needs.take(ways, axis=1)
        wrong = setup.answers.wrong(ways, examples)
        any_refused = np.count_nonzero(refused)
        if any_refused:
            needs[:, refused] = 0.0
            needs[Need.local_s, refused] = -np.inf
        if self.cache is not None:
            self._reuse(index, self.cache.look_up(index, given, actions, refused), needs, wrong)
        self.requests.way[now], self.requests.wrong[now] = ways, wrong
        table[Row.needs, now] = needs[Need.kept]
        table[Row.flights, now] = self._playing.flights(index)
        table[Row.arrival_s, now], table[Row.expires_s, now] = given[Given.arrival_s], given[Given.expires_s]
        table[Row.cost_if_answered, now] = setup.error_cost * wrong + needs[Need.answered_cost]
        self._start_on_device(index, given, needs)
        if any_refused:
            table[Row.end_s, now][refused] = given[Given.arrival_s, refused] + setup.base_s
        return needs

    def _reuse(self, index: int, looked_up: tuple[np.ndarray, np.ndarray], needs: np.ndarray, wrong: np.ndarray) -> None:
        """What the device's cache knows needs nothing more, and is as right as it was when it was computed."""
        hit, sources = looked_up
        self.requests.reused[self.requests.at(index)] = hit
        needs[:, hit] = 0.0
        needs[Need.counts, hit], needs[Need.local_s, hit] = 1.0, self._setup.base_s / 2
        wrong[hit] = self.requests.wrong[sources]

    def _start_on_device(self, index: int, given: np.ndarray, needs: np.ndarray) -> None:
        setup, table, now = self._setup, self.requests.table, self.requests.at(index)
        expires_s, on_device = given[Given.expires_s], needs[Need.on_device] > 0
        joins_s = given[Given.arrival_s] + (setup.base_s / 2 + setup.lookup_s)
        if self.job is not None:
            self.job.compute(joins_s, self.device_busy_s)  # its steps have what is idle until then
        start_s = np.maximum(joins_s, self.device_busy_s * on_device)
        in_time = start_s < expires_s
        end_s = start_s + needs[Need.device_s] * in_time
        runs = on_device & in_time
        np.copyto(self.device_busy_s, end_s, where=runs)
        handed_s = end_s + setup.uplink_half_s
        handed = (needs[Need.leaves] > 0) & (handed_s < expires_s)
        finish_s = end_s + needs[Need.local_s]
        table[Row.device_start_s, now], table[Row.device_end_s, now], table[Row.uplink_at_s, now] = start_s, end_s, handed_s
        table[Row.sending_s, now] = 0.0
        table[Row.finish_s, now], table[Row.end_s, now] = finish_s, np.minimum(finish_s, expires_s)
        table[Row.unsent_bytes, now] = needs[Need.uplink_bytes] * ~handed
        computed = in_time & (end_s <= expires_s)
        table[Row.cost, now] = needs[Need.computed_cost] * computed + needs[Need.started_cost] * runs + needs[Need.handed_cost] * handed
        table[Row.cost, now] += setup.lookup_cost * (needs[Need.counts] > 0)  # not of those that are refused
        entries = self.requests.entries(index)
        self._to_uplink.add(entries[handed], handed_s[handed])
        late = on_device & ~in_time
        if np.count_nonzero(late):
            self.doomed.add(entries[late], start_s[late])

    # ------------------------------------------------------------ time passes

    def advance(self, until_s: np.ndarray) -> tuple[Reached, Reached, Reached, Reached]:
        """Let everything happen up to `until_s` [N] if nothing else is decided by then: at uplink, edge, wan, cloud."""
        on_uplink = self._send_up(*self._to_uplink.due(until_s)) if self.job is None else self._share_uplink(self.job, until_s)
        return on_uplink, *self._advance_beyond_uplink(until_s)

    def advance_requests(self, until_s: np.ndarray) -> None:
        """The same without the training job, as if it stood still: to look ahead, between `save` and `restore`."""
        self._send_up(*self._to_uplink.due(until_s))
        self._advance_beyond_uplink(until_s)

    def _share_uplink(self, job: JobRun, until_s: np.ndarray) -> Reached:
        """Requests and updates in the order in which they are handed over; an update's end decides when the next one comes."""
        reached = []
        while True:
            job.compute(until_s, self.device_busy_s)
            reached.append(self._send_up(*self._to_uplink.due(np.minimum(until_s, job.handed_s))))
            updating = ((job.handed_s <= until_s) & (job.handed_s < NEVER)).nonzero()[0]
            if len(updating) == 0:
                return np.concatenate([due for due, _ in reached]), np.concatenate([at_s for _, at_s in reached])
            self._send_update(job, updating)

    def _send_update(self, job: JobRun, envs: np.ndarray) -> None:
        setup, up, down = self._setup, self._playing.paces["uplink", "up"], self._playing.paces["uplink", "down"]
        handed_s = job.handed_s[envs]
        end = np.maximum(up.bytes_by(handed_s, envs), self._uplink_busy[envs]) + job.job.up_bytes
        sent_s = up.time_of(end, envs)
        sending_s = sent_s - np.maximum(handed_s, self._uplink_busy_s[envs])
        self._uplink_busy[envs], self._uplink_busy_s[envs] = end, sent_s
        aggregated_s = sent_s + setup.uplink.delay_s + job.job.aggregation_s
        landed_s = down.time_of(down.bytes_by(aggregated_s, envs) + job.job.down_bytes, envs) + setup.uplink.delay_s
        job.sent(envs, sending_s, sent_s + 2 * setup.uplink.delay_s, aggregated_s, landed_s)

    def _advance_beyond_uplink(self, until_s: np.ndarray) -> tuple[Reached, Reached, Reached]:
        at_edge = self._compute_at_edge(*self._to_edge.due(until_s))
        on_wan = self._send_on(*self._to_wan.due(until_s))
        at_cloud = self._compute_in_cloud(*self._to_cloud.due(until_s))
        return at_edge, on_wan, at_cloud

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
        table[Row.edge_at_s][due] = table[Row.edge_end_s][due] = at_s
        table[Row.edge_expires_s][due] = at_s + (table[Row.expires_s][due] - handed_s)
        computes = on_edge > 0
        self._to_edge.add(due[computes], at_s[computes])
        self._hand_to_wan(due[~computes])
        return due, at_s

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
        """Results that the edge has at `at_edge_s` go to the device."""
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
        return self._busy.copy(), [(waiting.entries, waiting.at_s) for waiting in self._lists]

    def restore(self, state: NetworkState) -> None:
        """Take back what happened since `save`."""
        self._busy[:], saved = state
        for waiting, (entries, at_s) in zip(self._lists, saved, strict=True):
            waiting.entries, waiting.at_s = entries, at_s


NetworkState = tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]
