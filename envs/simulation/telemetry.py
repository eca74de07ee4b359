"""What each device knows when it must decide: its own state exactly, the rest as old reports and estimates.

    edge      its queue when the last ping to have come back was there
    cloud     the same through the edge: as the edge knew it at that moment
    uplink    rate of the last acknowledged payload; bytes decided and not yet acknowledged
    wan       rate as the edge had measured it when it last reported; bytes of unfinished requests

A rate that has not been measured for long while nothing is on its way is measured by a probe, as nodes do
(runtime/protocol/connection.py); the probe's own bytes are not simulated.
"""

from __future__ import annotations

import numpy as np

from envs.raw_state import ROW as RAW
from envs.raw_state import RawState
from envs.simulation.episodes import Given, Playing
from envs.simulation.job import JobRun
from envs.simulation.links import Pace
from envs.simulation.network import Network, Reached
from envs.simulation.rows import NOTHING, Requests, Row, Waiting
from envs.simulation.setup import COUNT_BITS, COUNT_MASK, Need, Setup
from runtime.protocol.connection import PROBE_AFTER_S

_COUNT_SHIFTS = COUNT_BITS * np.arange(4)[:, None]


class Telemetry:
    """Reports and estimates of N environments."""

    def __init__(self, setup: Setup, network: Network, num_envs: int) -> None:
        self._setup, self._network, self._num_envs = setup, network, num_envs
        blank = RawState.empty(num_envs)
        blank.uplink_delay_s, blank.wan_delay_s, blank.deadline_s = setup.uplink.delay_s, setup.wan.delay_s, setup.deadline_s
        self._blank = blank.matrix

    def start(self, playing: Playing) -> None:
        """Empty queues, and links whose rates a probe has just measured."""
        requests, period_s, paces = self._network.requests, self._setup.period_s, playing.paces
        self._service_s = playing.background.service_s
        self._counts = np.zeros(self._num_envs)
        self._uplink = LinkKnowledge(requests, paces["uplink", "up"], self._setup.uplink.delay_s, playing.phase_s[0], period_s)
        self._wan = LinkKnowledge(requests, paces["wan", "up"], self._setup.wan.delay_s, playing.phase_s[1], period_s)
        self._edge = QueueKnowledge(requests, Row.edge_start_s, Row.edge_end_s, Row.edge_s)
        self._cloud = QueueKnowledge(requests, Row.cloud_start_s, Row.cloud_end_s, Row.cloud_s)

    @property
    def num_in_flight(self) -> np.ndarray:
        """Unfinished requests, int [N]."""
        return self._counts.astype(np.int64) & COUNT_MASK

    # ------------------------------------------------------------ hearing of events

    def decided(self, needs: np.ndarray) -> None:
        """Requests with these needs [Need.num, N] have been accepted."""
        self._counts += needs[Need.counts]
        self._uplink.outstanding_bytes += needs[Need.uplink_bytes]
        self._wan.outstanding_bytes += needs[Need.wan_bytes]

    def passed(self, on_uplink: Reached, at_edge: Reached, on_wan: Reached, at_cloud: Reached) -> None:
        """Requests went over links and through queues; reports of it come later."""
        self._uplink.unacknowledged.add(*on_uplink)
        self._wan.unacknowledged.add(*on_wan)
        self._edge.unseen.add(*at_edge)
        self._cloud.unseen.add(*at_cloud)

    def ended(self, ended: np.ndarray, envs: np.ndarray) -> None:
        """These requests have an outcome."""
        table, num_envs = self._network.requests.table, self._num_envs
        self._counts -= np.bincount(envs, table[Row.counts][ended], num_envs)
        self._uplink.outstanding_bytes -= np.bincount(envs, table[Row.unsent_bytes][ended], num_envs)
        self._wan.outstanding_bytes -= np.bincount(envs, table[Row.wan_bytes][ended], num_envs)

    # ------------------------------------------------------------ observing

    def observe(self, given: np.ndarray) -> RawState:
        """What the N devices know when the requests described by `given` (see Playing) arrive."""
        now_s, edge_s, cloud_s = given[Given.arrival_s], given[Given.edge_seen_s], given[Given.cloud_seen_s]
        uplink, wan = self._uplink, self._wan
        uplink.hear(now_s, Row.uplink_bytes, Row.sending_s, acknowledge=True, job=self._network.job)
        wan.hear(edge_s, Row.wan_bytes, Row.wan_sending_s, acknowledge=False)
        raw = self._blank.copy()
        np.maximum(self._network.device.busy_s - now_s, 0.0, out=raw[RAW["device_backlog_s"]])
        self._add_doomed(raw[RAW["device_backlog_s"]], now_s)
        raw[RAW["edge_backlog_s"]], raw[RAW["edge_num_waiting"]] = self._see_edge(given, edge_s)
        raw[RAW["cloud_backlog_s"]], raw[RAW["cloud_num_waiting"]] = self._see_cloud(cloud_s)
        np.subtract(now_s, edge_s, out=raw[RAW["edge_age_s"]])
        np.subtract(now_s, cloud_s, out=raw[RAW["cloud_age_s"]])
        raw[RAW["uplink_outstanding_bytes"]], raw[RAW["wan_outstanding_bytes"]] = uplink.outstanding_bytes, wan.outstanding_bytes
        job = self._network.job
        if job is not None:
            raw[RAW["uplink_outstanding_bytes"]] += job.outstanding_bytes(now_s)
        raw[RAW["uplink_rate_bytes_per_s"]], raw[RAW["wan_rate_bytes_per_s"]] = uplink.rate_bytes_per_s, wan.rate_bytes_per_s
        np.subtract(now_s, uplink.measured_at_s, out=raw[RAW["uplink_age_s"]])
        np.subtract(now_s, wan.measured_at_s, out=raw[RAW["wan_age_s"]])
        raw[RAW["arrival_rate_per_s"]] = given[Given.arrival_rate_per_s]
        raw[_COUNT_ROWS] = self._counts.astype(np.int64) >> _COUNT_SHIFTS & COUNT_MASK
        told = self._setup.difficulty
        difficulty = told[:, given[Given.example].astype(np.int64)] if told is not None else None
        return RawState.of_matrix(raw, difficulty, job.see(now_s) if job is not None else None)

    def _add_doomed(self, backlog_s: np.ndarray, now_s: np.ndarray) -> None:
        """Expired work stays in the device's queue until its turn comes."""
        doomed, requests = self._network.device.doomed, self._network.requests
        if len(doomed.entries):
            doomed.due(now_s)
            backlog_s += np.bincount(doomed.entries & requests.env_mask, requests.table[Row.device_s][doomed.entries], self._num_envs)

    def _see_edge(self, given: np.ndarray, at_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(backlog, number waiting) as reported by the edge of itself at `at_s`, neighbours included."""
        backlog_s, num_present, num_waiting, own_s = self._edge.see(at_s, given[Given.jobs_seen_s], given[Given.jobs_alone_s])
        # what is not own work is whole jobs, the first of them running if no own request is
        others = np.ceil((backlog_s - own_s) / self._service_s - 1e-6) - (num_present == num_waiting)
        return backlog_s + self._edge.dropped_s(at_s), num_waiting + np.maximum(others, 0.0)

    def _see_cloud(self, at_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        backlog_s, _, num_waiting, _ = self._cloud.see(at_s, 0.0, -np.inf)
        return backlog_s + self._cloud.dropped_s(at_s), num_waiting


class LinkKnowledge:
    """What the sender of a link knows of it, [N]."""

    def __init__(self, requests: Requests, pace: Pace, delay_s: float, phase_s: np.ndarray, period_s: float) -> None:
        self._requests, self._pace, self._delay_s, self._phase_s, self._period_s = requests, pace, delay_s, phase_s, period_s
        num_envs = requests.num_envs
        self.rate_bytes_per_s = np.zeros(num_envs) + pace.rate_at(np.zeros(num_envs), np.arange(num_envs))
        self.measured_at_s = np.zeros(num_envs)
        self.outstanding_bytes = np.zeros(num_envs)
        self.unacknowledged = Waiting(requests)
        """Until they land."""

    def hear(self, now_s: np.ndarray, num_bytes: int, sending_s: int, *, acknowledge: bool, job: JobRun | None = None) -> None:
        """Take in the acknowledgements that came by `now_s` [N], each a delay after its payload landed.

        `num_bytes` and `sending_s` are rows of the table; with `acknowledge` those bytes are no longer outstanding.
        Updates of a `job` that shares the link measure it too.
        """
        heard, landed_s = self.unacknowledged.due(now_s - self._delay_s)
        if len(heard):
            order = landed_s.argsort()  # jitter may reorder; of several in one environment the last assignment stays
            heard, landed_s = heard[order], landed_s[order]
            envs, crossed_bytes = heard & self._requests.env_mask, self._requests.table[num_bytes][heard]
            self.rate_bytes_per_s[envs] = crossed_bytes / self._requests.table[sending_s][heard]
            self.measured_at_s[envs] = landed_s + self._delay_s
            if acknowledge:
                self.outstanding_bytes -= np.bincount(envs, crossed_bytes, len(now_s))
        outstanding = self.outstanding_bytes
        if job is not None:
            self._hear_of_updates(*job.measured(now_s))
            outstanding = outstanding + job.outstanding_bytes(now_s)
        old = now_s - self.measured_at_s > PROBE_AFTER_S
        if np.count_nonzero(old):
            self._probe((old & (outstanding == 0)).nonzero()[0], now_s)

    def _hear_of_updates(self, measured_at_s: np.ndarray, rate_bytes_per_s: np.ndarray) -> None:
        newer = measured_at_s > self.measured_at_s
        np.copyto(self.rate_bytes_per_s, rate_bytes_per_s, where=newer)
        np.copyto(self.measured_at_s, measured_at_s, where=newer)

    def _probe(self, old: np.ndarray, now_s: np.ndarray) -> None:
        """Measure rates that were not measured for long, at the first ping that found them so."""
        phase_s = self._phase_s[old]
        sent_s = phase_s + np.ceil((self.measured_at_s[old] + PROBE_AFTER_S - phase_s) / self._period_s) * self._period_s
        back = sent_s + 2 * self._delay_s <= now_s[old]
        old, sent_s = old[back], sent_s[back]
        self.rate_bytes_per_s[old] = self._pace.rate_at(sent_s, old)
        self.measured_at_s[old] = sent_s + 2 * self._delay_s


class QueueKnowledge:
    """A node's queue as its reports describe it, [N]."""

    def __init__(self, requests: Requests, start_s: int, end_s: int, work_s: int) -> None:
        """The last three are rows of the table."""
        self._requests, self._start_s, self._end_s, self._work_s = requests, start_s, end_s, work_s
        self._busy_s = np.full(requests.num_envs, -np.inf)
        self._present = NOTHING
        self._nobody = np.zeros(requests.num_envs)
        self.unseen = Waiting(requests)
        """Until they arrive at the node."""
        self._dropped = Waiting(requests)
        """Until their turn comes."""

    def see(
        self, report_s: np.ndarray, jobs_s: np.ndarray | float, jobs_alone_s: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(backlog of what will be worked, own requests present, those of them waiting, own seconds) at `report_s`.

        Neighbours had brought `jobs_s` of work by then, which alone would be done at `jobs_alone_s`.
        """
        table, num_envs, mask = self._requests.table, self._requests.num_envs, self._requests.env_mask
        seen, _ = self.unseen.due(report_s)
        if len(seen):
            self._hear_of(seen)
            self._present = np.concatenate((self._present, seen))
        backlog_s = np.maximum(np.maximum(self._busy_s + jobs_s, jobs_alone_s) - report_s, 0.0)
        if len(self._present) == 0:
            return backlog_s, self._nobody, self._nobody, self._nobody
        ends_s, reports_s = table[self._end_s][self._present], report_s[self._present & mask]
        stays = ends_s > reports_s
        self._present, ends_s, reports_s = self._present[stays], ends_s[stays], reports_s[stays]
        envs, starts_s = self._present & mask, table[self._start_s][self._present]
        return (
            backlog_s,
            np.bincount(envs, minlength=num_envs),
            np.bincount(envs, starts_s > reports_s, num_envs),
            np.bincount(envs, ends_s - np.maximum(starts_s, reports_s), num_envs),
        )

    def _hear_of(self, seen: np.ndarray) -> None:
        table = self._requests.table
        ends_s, starts_s = table[self._end_s][seen], table[self._start_s][seen]
        before_s = table[Row.edge_jobs_s][seen] if self._end_s == Row.edge_end_s else 0.0
        self._busy_s[seen & self._requests.env_mask] = ends_s - before_s  # of several in one environment the last stays
        dropped = ends_s == starts_s
        if np.count_nonzero(dropped):
            self._dropped.add(seen[dropped], starts_s[dropped])

    def dropped_s(self, report_s: np.ndarray) -> np.ndarray | float:
        """Seconds of expired work in the queue: accepted, and not to be worked, but there until its turn comes."""
        if len(self._dropped.entries) == 0:
            return 0.0
        self._dropped.due(report_s)
        entries = self._dropped.entries
        return np.bincount(entries & self._requests.env_mask, self._requests.table[self._work_s][entries], self._requests.num_envs)


_COUNT_ROWS = np.array([RAW[name] for name in ("num_in_flight", "device_num_own", "edge_num_own", "cloud_num_own")])
