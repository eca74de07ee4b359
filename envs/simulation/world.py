"""N simulated worlds stepping together: decide, let time pass until the next arrival, collect what ended."""

from __future__ import annotations

import msgspec
import numpy as np

from envs.raw_state import RawState
from envs.simulation.episodes import Given, Playing
from envs.simulation.frame_filter import FrameFilter
from envs.simulation.job import JobRun
from envs.simulation.network import Network
from envs.simulation.rows import NOTHING, Requests, Reuse, Row
from envs.simulation.setup import Setup
from envs.simulation.telemetry import Telemetry
from runtime.messages import TauSpec


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that got their outcome, arrays [n], in no particular order."""

    entry: np.ndarray
    """In `World.requests`."""
    env: np.ndarray
    request: np.ndarray
    """Its id: 0-based index in the episode."""
    cost: np.ndarray
    latency_s: np.ndarray
    answered: np.ndarray
    """bool: an answer by the deadline; anything else is a miss."""


class World:
    """State of N environments, all at the same request index.  The caller starts episodes; nothing here restarts by itself."""

    def __init__(self, setup: Setup, num_envs: int) -> None:
        self.setup, self.num_envs = setup, num_envs
        self.num_requests = setup.scenario.workload.num_requests
        self._network = Network(setup, num_envs)
        self._telemetry = Telemetry(setup, self._network, num_envs)
        self._filter = FrameFilter(setup.frames, self.requests) if setup.frames is not None else None
        self._remembers = setup.frames is not None or setup.device_cache is not None
        self._forever = np.full(num_envs, np.inf)

    @property
    def requests(self) -> Requests:
        """Every request of the episodes."""
        return self._network.requests

    def start(self, playing: Playing, tau: TauSpec | None = None) -> None:
        """Begin new episodes, from empty queues, at their first request.  `tau`: who sets a job's tau; None: decisions do."""
        self._playing = playing
        self.index = 0
        """Of the requests that await a decision."""
        self._given = playing.given(0)
        self.unfinished = NOTHING
        """Entries of decided requests without an outcome."""
        self._network.start(playing, tau)
        self._telemetry.start(playing)
        if self._filter is not None:
            self._filter.start(playing)
        self._judge()
        if self.job is not None:  # it trains before the first request comes
            self._network.advance(self.at_s)

    @property
    def job(self) -> JobRun | None:
        """The training job beside the requests, if there is one."""
        return self._network.job

    @property
    def at_s(self) -> np.ndarray:
        """When the awaiting requests arrived, [N]."""
        at_s: np.ndarray = self._given[Given.arrival_s]
        return at_s

    @property
    def over(self) -> bool:
        """Every request has been decided."""
        return self.index == self.num_requests

    @property
    def refused(self) -> np.ndarray:
        """bool [N]: whether the awaiting requests will be refused, whatever is decided, because too many are in flight."""
        refused: np.ndarray = self._telemetry.num_in_flight >= self.setup.max_in_flight
        return refused

    @property
    def skipped(self) -> np.ndarray:
        """bool [N]: whether the awaiting requests' frames are unchanged: they need no decision, unless they are refused."""
        return self._skips.skipped if self._skips is not None else np.zeros(self.num_envs, dtype=bool)

    def observe(self) -> RawState:
        """What is known for the requests that await a decision.  Once per request."""
        return self._telemetry.observe(self._given)

    def decide(self, actions: np.ndarray, refused: np.ndarray) -> Ended:
        """Decide the awaiting requests, and let time pass until the next ones arrive, or after the last ones to the end of all.

        `refused` is usually the property of that name.
        """
        skips = self._skips.but(refused) if self._skips is not None else None
        self._telemetry.decided(self._network.decide(self.index, self._given, actions, refused, skips))
        self.unfinished = np.concatenate((self.unfinished, self.requests.entries(self.index)))
        self.index += 1
        if not self.over:
            self._given = self._playing.given(self.index)
        until_s = self._forever if self.over else self.at_s
        self._telemetry.passed(*self._network.advance(until_s))
        done = self.requests.table[Row.end_s][self.unfinished] <= until_s[self.unfinished & self.requests.env_mask]
        ended, self.unfinished = self.unfinished[done], self.unfinished[~done]
        outcomes = self._outcomes(ended)
        if self._remembers:
            self._remember(ended[outcomes.answered])
        self._telemetry.ended(ended, outcomes.env)
        if not self.over:
            self._judge()
        return outcomes

    def _remember(self, answered: np.ndarray) -> None:
        """Answers that have reached the device serve its cache and its filter."""
        if self._filter is not None:
            self._filter.processed(answered[self.requests.reused[answered] != Reuse.device_filter])
        self._network.device.answered(answered[self.requests.reused[answered] == Reuse.none])

    def _judge(self) -> None:
        """What the filter says of the requests that have just arrived."""
        self._skips = self._filter.judge(self.index, self._given) if self._filter is not None else None

    def _outcomes(self, ended: np.ndarray) -> Ended:
        """What these requests cost, by envs/reward.py's definitions in array form."""
        setup, table = self.setup, self.requests.table
        arrival_s, sending_s, finish_s, end_s, cost, cost_if_answered = table[Row.outcome].take(ended, axis=1)
        latency_s = end_s - arrival_s
        answered = finish_s == end_s
        cost += setup.latency_cost_per_s * latency_s + setup.sending_cost_per_s * sending_s
        cost += np.where(answered, cost_if_answered, setup.failed_cost)
        return Ended(
            entry=ended, env=ended & self.requests.env_mask, request=self.requests.request(ended),
            cost=cost, latency_s=latency_s, answered=answered,
        )  # fmt: skip

    def pending_cost(self) -> np.ndarray:
        """[N] what the unfinished requests will cost if no further request is decided, and a training job stands still.

        Runs ahead, and takes it back.
        """
        table, unfinished = self.requests.table, self.unfinished
        before, state = table[:, unfinished], self._network.save()
        self._network.advance_requests(self._forever)
        outcomes = self._outcomes(unfinished)
        self._network.restore(state)
        table[:, unfinished] = before
        return np.bincount(outcomes.env, outcomes.cost, self.num_envs)
