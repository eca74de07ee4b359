"""What a decision does on the device, in N environments at once: look, recall, compute, hand to the uplink or answer.

One worker, first come first served.  Expired work is dropped when its turn comes, and sits in the queue until then.
"""

from __future__ import annotations

import numpy as np

from envs.simulation.episodes import Given, Playing
from envs.simulation.exact_cache import ExactCache
from envs.simulation.frame_filter import Skips
from envs.simulation.job import JobRun
from envs.simulation.rows import Requests, Reuse, Row, Waiting
from envs.simulation.setup import Need, Setup


class Device:
    """N devices."""

    def __init__(self, setup: Setup, requests: Requests, to_uplink: Waiting, job: JobRun | None = None) -> None:
        """`to_uplink` gets what leaves; the steps of a `job` have what is idle."""
        self._setup, self._requests, self._to_uplink, self._job = setup, requests, to_uplink, job
        self.busy_s = np.zeros(requests.num_envs)
        """Until when."""
        cache = setup.device_cache
        self._cache = ExactCache(requests, cache) if cache is not None else None
        self.doomed = Waiting(requests)
        """Requests that will have expired by the time the device could start them; until then they sit in its queue."""

    def start(self, playing: Playing) -> None:
        """Nothing waits and nothing is remembered; play these episodes from now on."""
        self._playing = playing
        self.busy_s[:] = 0.0
        self.doomed.clear()
        if self._cache is not None:
            self._cache.start()

    def answered(self, entries: np.ndarray) -> None:
        """These had computed answers by their deadlines."""
        if self._cache is not None:
            self._cache.store(entries, self._requests.table[Row.end_s][entries])

    def decide(self, index: int, given: np.ndarray, actions: np.ndarray, refused: np.ndarray, skips: Skips | None) -> np.ndarray:
        """Request `index` of every environment is decided, `actions` [N]; it does not enter where `refused` [N].

        `given` as of Playing; `skips`, none of them refused, need no decision.  Returns what the decisions need,
        [Need.num, N], nothing where refused.
        """
        setup, table, now = self._setup, self._requests.table, self._requests.at(index)
        examples = given[Given.example].astype(np.int64)
        ways = setup.answers.ways(actions, examples)
        needs = setup.needs.take(ways, axis=1)
        wrong = setup.answers.wrong(ways, examples)
        any_refused = np.count_nonzero(refused)
        if any_refused:
            needs[:, refused] = 0.0
            needs[Need.local_s, refused] = -np.inf
        self._requests.reused[now] = Reuse.none
        if skips is not None:
            ways = ways.copy()
            ways[skips.skipped] = self._requests.way[skips.sources]
            self._answer_at_once(index, skips.skipped, skips.wrong, Reuse.device_filter, needs, wrong)
        if self._cache is not None:
            self._recall(index, given, actions, refused if skips is None else refused | skips.skipped, needs, wrong)
        self._requests.way[now], self._requests.wrong[now] = ways, wrong
        table[Row.needs, now] = needs[Need.kept]
        table[Row.flights, now] = self._playing.flights(index)
        table[Row.arrival_s, now], table[Row.expires_s, now] = given[Given.arrival_s], given[Given.expires_s]
        table[Row.cost_if_answered, now] = setup.error_cost * wrong + needs[Need.answered_cost]
        self._begin(index, given, needs)
        if any_refused:
            table[Row.end_s, now][refused] = given[Given.arrival_s, refused] + setup.base_s
        return needs

    def _recall(self, index: int, given: np.ndarray, actions: np.ndarray, absent: np.ndarray, needs: np.ndarray, wrong: np.ndarray) -> None:
        """Look the requests up that are not `absent` [N]."""
        cache, entries = self._cache, self._requests.entries(index)
        assert cache is not None
        cache.bring(index, given, actions)
        hit = np.zeros(len(absent), dtype=bool)
        hit[~absent], sources = cache.look_up(entries[~absent], given[Given.arrival_s, ~absent])
        self._answer_at_once(index, hit, self._requests.wrong[sources], Reuse.device_cache, needs, wrong)

    def _answer_at_once(
        self, index: int, known: np.ndarray, known_wrong: np.ndarray, reuse: int, needs: np.ndarray, wrong: np.ndarray
    ) -> None:
        """What is `known` [N] needs nothing more, and is as right as it was when it was computed."""
        self._requests.reused[self._requests.at(index)][known] = reuse
        needs[:, known] = 0.0
        needs[Need.counts, known], needs[Need.local_s, known] = 1.0, self._setup.base_s / 2
        wrong[known] = known_wrong

    def _begin(self, index: int, given: np.ndarray, needs: np.ndarray) -> None:
        setup, table, now = self._setup, self._requests.table, self._requests.at(index)
        expires_s, on_device = given[Given.expires_s], needs[Need.on_device] > 0
        joins_s = given[Given.arrival_s] + (setup.base_s / 2 + setup.look_s)
        if self._job is not None:
            self._job.compute(joins_s, self.busy_s)  # its steps have what is idle until then
        start_s = np.maximum(joins_s, self.busy_s * on_device)
        in_time = start_s < expires_s
        end_s = start_s + needs[Need.device_s] * in_time
        runs = on_device & in_time
        np.copyto(self.busy_s, end_s, where=runs)
        handed_s = end_s + setup.uplink_half_s
        handed = (needs[Need.leaves] > 0) & (handed_s < expires_s)
        finish_s = end_s + needs[Need.local_s]
        table[Row.device_start_s, now], table[Row.device_end_s, now], table[Row.uplink_at_s, now] = start_s, end_s, handed_s
        table[Row.sending_s, now] = 0.0
        table[Row.finish_s, now], table[Row.end_s, now] = finish_s, np.minimum(finish_s, expires_s)
        table[Row.unsent_bytes, now] = needs[Need.uplink_bytes] * ~handed
        busy_s = (np.minimum(end_s, expires_s) - start_s) * runs + setup.look_s * (needs[Need.counts] > 0)  # not of those that are refused
        table[Row.cost, now] = setup.busy_cost_per_s * busy_s + needs[Need.started_cost] * runs + needs[Need.handed_cost] * handed
        entries = self._requests.entries(index)
        self._to_uplink.add(entries[handed], handed_s[handed])
        late = on_device & ~in_time
        if np.count_nonzero(late):
            self.doomed.add(entries[late], start_s[late])
