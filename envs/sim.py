"""The vectorised simulator: N episodes of one scenario advance together, one decision each per step.

It is exact for what it models (envs/simulation/network.py says what): an event-driven simulation of the same
rules gives the same latencies.  All environments are at the same request index and end together.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from envs.catalogue import catalogued
from envs.job_state import JOB_ROW
from envs.raw_state import RawState
from envs.scenario import Scenario
from envs.simulation.episodes import Playing, Pool
from envs.simulation.job import JobRun
from envs.simulation.setup import Setup
from envs.simulation.world import Ended, World
from runtime.errors import InvalidDecision
from runtime.messages import Decision, TauSpec
from runtime.models.examples import Examples
from runtime.profile import Profile

POOL_SIZE = 256
"""Episodes drawn at a reset (at least one per environment): later episodes are made of these by pairing."""


class SimStep(msgspec.Struct, frozen=True, kw_only=True):
    """What a step of N environments gave."""

    raw: RawState
    """Of the next requests; where `done`, of the next episode's first."""
    reward: np.ndarray
    """[N] minus the cost of the requests that ended between this decision and the next, or the episode's end, plus the
    objective's worth of `loss_drop`."""
    done: np.ndarray
    """bool [N]: the episode is over, every request has ended, and a new one has begun."""
    ended: Ended
    """Those requests."""
    loss_drop: np.ndarray
    """[N] by which the training job's loss fell between this decision and the next, or the episode's end; 0 without a job.

    An episode's drops sum to its first loss minus its last."""


class VectorSim:
    """N environments, float64; no Python loop over them.

    Decisions are chosen by index into `decisions` (default: the catalogue).  Wrong answers are those measured
    on each request's own example, or with `expected_error` the split's average for (variant, exit).
    `examples`: the split's pictures, which a filter looks at; None loads them where there is one.
    Where the scenario has a job beside the requests, `job` says how far it is.
    Raises InvalidProfile when the profile does not fit the scenario, InvalidDecision for unknown decisions.
    """

    def __init__(
        self,
        scenario: Scenario,
        profile: Profile,
        num_envs: int,
        *,
        split: str = "validation",
        decisions: Sequence[Decision] | None = None,
        expected_error: bool = False,
        pool_size: int = POOL_SIZE,
        examples: Examples | None = None,
    ) -> None:
        self.cost_model = catalogued(scenario, profile, split, decisions)
        self.num_envs, self._pool_size = num_envs, max(pool_size, num_envs)
        self._setup = Setup(scenario, profile, self.cost_model, split, expected_error, examples)
        self._world = World(self._setup, num_envs)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What an action means: action a is decisions[a]."""
        return self.cost_model.decisions

    @property
    def num_requests(self) -> int:
        """Steps of an episode."""
        return self._world.num_requests

    def reset(self, seeds: Sequence[int] | np.ndarray, tau: TauSpec | None = None) -> RawState:
        """Start the episodes of `seeds` [N], and draw the pool that later ones are made of; its draw depends on `seeds` only.

        `tau`: who sets a job's tau in these and later episodes; None: decisions do.
        """
        first = [int(seed) for seed in seeds]
        if len(first) != self.num_envs:
            raise ValueError(f"one seed per environment, {self.num_envs}; got {len(first)}")
        self._rng = np.random.default_rng([seed & 0xFFFFFFFF for seed in first])
        more = self._rng.integers(2**32, size=self._pool_size - self.num_envs)
        self._pool = Pool(self._setup, [*first, *more.tolist()])
        own, self._tau = np.arange(self.num_envs), tau
        self._world.start(Playing(self._pool, own, own), tau)
        return self._world.observe()

    def step(self, actions: np.ndarray, tau_rows: np.ndarray | None = None) -> SimStep:
        """Decide the awaiting request of every environment: `actions` int [N].

        `tau_rows` int [N]: which of the job's taus the rounds to come have, where one is due; None decides nothing.
        The step after the last request of an episode waits for all that are left, and starts another episode.
        """
        if tau_rows is not None:
            self._decide_taus(tau_rows)
        ended = self._world.decide(np.asarray(actions, dtype=np.int64), self._world.refused)
        over, loss_drop = self._world.over, self._loss_drop()
        if over:
            self._world.start(Playing(self._pool, *self._rng.integers(self._pool.num, size=(2, self.num_envs))), self._tau)
        return SimStep(
            raw=self._world.observe(),
            reward=self.cost_model.objective.loss_drop * loss_drop - np.bincount(ended.env, ended.cost, self.num_envs),
            done=np.full(self.num_envs, over),
            ended=ended,
            loss_drop=loss_drop,
        )

    def _decide_taus(self, rows: np.ndarray) -> None:
        job, traits = self.job, self.cost_model.job
        if job is None or traits is None:
            raise InvalidDecision("nothing here has a tau to decide; give the simulator a job with taus")
        due = job.see(self.at_s)[JOB_ROW["tau_due"]] > 0
        job.decide(np.array(traits.taus)[np.asarray(rows, dtype=np.int64)], due, self.at_s)

    def _loss_drop(self) -> np.ndarray:
        job = self._world.job
        return np.zeros(self.num_envs) if job is None else job.take_loss_drop()

    @property
    def job(self) -> JobRun | None:
        """The training job beside the requests, if there is one: its state, and the tau of its next rounds."""
        return self._world.job

    @property
    def at_s(self) -> np.ndarray:
        """[N] when the awaiting requests arrived, seconds since their episode's start."""
        return self._world.at_s

    @property
    def refused(self) -> np.ndarray:
        """bool [N]: the awaiting request will be refused, whatever is decided, because too many are in flight."""
        return self._world.refused

    @property
    def skipped(self) -> np.ndarray:
        """bool [N]: the device's filter answers the awaiting request, whatever is decided, unless it is refused."""
        return self._world.skipped

    @property
    def pending_cost(self) -> np.ndarray:
        """[N] cost of the unfinished requests as scheduled: what they will cost if nothing else is decided.

        Minus this is a potential for reward shaping (Ng, Harada, Russell, ICML 1999): with it, a decision is paid
        for at once, with what it does to the requests before it, and episodes' sums stay what they are.
        """
        return self._world.pending_cost()
