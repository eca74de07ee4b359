"""The simulated system: one device in virtual time, with everything that the model can be asked to do.

It runs on the vectorised simulator's core with N = 1, so that what agents train on and what they are tested on is one thing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.costs import build_cost_model
from envs.raw_state import RawState
from envs.scenario import Scenario
from envs.simulation.episodes import Playing, Pool
from envs.simulation.outcomes import outcome_of
from envs.simulation.rows import Row
from envs.simulation.setup import Setup
from envs.simulation.world import Ended, World
from envs.system import JobReport, Step
from runtime.errors import SystemFailure
from runtime.messages import Decision, Observation, Outcome, TauSpec
from runtime.models.examples import Examples
from runtime.profile import Profile

_ONE = np.zeros(1, dtype=np.int64)


class SimulatedSystem:
    """Implements `System`.  The same seed gives the same arrivals, pictures, rates, jitter and neighbours as live.

    As live, the device refuses a request by itself when too many are in flight, and its filter skips unchanged frames:
    these need no decision and are never observed.
    Decisions are the legal ones of the profiled model; another one raises InvalidDecision.  Where a job trains beside the
    requests they may have a tau, which holds for the rounds to come.
    """

    def __init__(
        self,
        scenario: Scenario,
        profile: Profile,
        *,
        split: str = "validation",
        examples: Examples | None = None,
    ) -> None:
        """`examples`: the split's pictures, which a filter looks at; None loads them where there is one."""
        self.scenario, self.profile = scenario, profile
        self.cost_model = build_cost_model(profile, scenario, split=split)
        self._setup = Setup(scenario, profile, self.cost_model, split, expected_error=False, examples=examples)
        self._world = World(self._setup, 1)
        self._deciding = False

    def reset(self, seed: int, tau: TauSpec | None = None) -> Step:
        """See System and TrainingSystem."""
        self._start(seed, tau)
        return self._until_observed([])

    def execute(self, decision: Decision) -> Step:
        """See System.  Raises InvalidDecision for a decision that the model cannot carry out."""
        if not self._deciding:
            raise SystemFailure("no request awaits a decision; call reset first")
        return self._until_observed(self._decide(self.cost_model.find(decision), decision.tau))

    def close(self) -> None:
        """Nothing to release."""
        self._deciding = False

    def job_report(self) -> JobReport | None:
        """See TrainingSystem."""
        job = self._world.job
        if job is None:
            return None
        initial, final = (float(loss[0]) for loss in (job.initial_loss, job.loss))
        return JobReport(num_rounds=int(job.num_rounds[0]), num_steps=int(job.num_steps[0]), initial_loss=initial, final_loss=final)

    def replay(self, seed: int, decisions: Mapping[int, Decision], tau: TauSpec | None = None) -> tuple[Outcome, ...]:
        """Outcomes, in the order they ended, of the episode of `seed` with request i decided as `decisions[i]`; `tau` as of `reset`.

        A request without a decision is refused, as one is that never got a decision live.
        """
        actions = {request_id: (self.cost_model.find(decision), decision.tau) for request_id, decision in decisions.items()}
        self._start(seed, tau)
        outcomes: list[Outcome] = []
        while not self._world.over:
            outcomes += self._decide(*actions.get(self._world.index, (None, None)))
        self._deciding = False
        return tuple(outcomes)

    # ------------------------------------------------------------ one request

    def _start(self, seed: int, tau: TauSpec | None) -> None:
        pool = Pool(self._setup, [seed])
        self._world.start(Playing(pool, _ONE, _ONE), tau)
        self._deciding = True

    def _decide(self, action: int | None, tau: int | None = None) -> list[Outcome]:
        """Decide the next request (None: refuse it, unless it is skipped); outcomes until the one after arrives, in the order they came."""
        if tau is not None and self._world.job is not None:
            self._world.job.decide(np.array([tau]), np.array([True]), self._world.at_s)
        refused = self._world.refused if action is not None else self._world.refused | ~self._world.skipped
        return self._outcomes(self._world.decide(np.array([action or 0]), refused))

    def _until_observed(self, outcomes: list[Outcome]) -> Step:
        world = self._world
        while not world.over and (world.refused[0] or world.skipped[0]):
            outcomes += self._decide(None)
        self._deciding = not world.over
        drop = float(world.job.take_loss_drop()[0]) if world.job is not None else 0.0
        return Step(observation=None if world.over else self._observation(world.observe()), outcomes=tuple(outcomes), loss_drop=drop)

    def _observation(self, raw: RawState) -> Observation:
        world, at_s = self._world, float(self._world.at_s[0])
        return raw.to_observation(
            0, request_id=world.index, model=self.profile.model, at_s=at_s, device_num_waiting=self._num_waiting(at_s)
        )

    def _num_waiting(self, at_s: float) -> int:
        """Own computations that wait for the device, expired ones too."""
        requests = self._world.requests
        decided = requests.table[:, : requests.at(self._world.index).start]
        return int(np.count_nonzero((decided[Row.device_start_s] > at_s) & (decided[Row.device_s] > 0)))

    def _outcomes(self, ended: Ended) -> list[Outcome]:
        requests, decisions = self._world.requests, self.cost_model.decisions
        outcomes = []
        for index in np.argsort(requests.table[Row.end_s][ended.entry], kind="stable").tolist():
            entry, request_id = int(ended.entry[index]), int(ended.request[index])
            way = int(requests.way[entry])
            decision, exit = decisions[self.cost_model.way_decision[way]], self.cost_model.way_exit[way]
            outcomes.append(outcome_of(self._world, self.profile, entry, request_id, decision, exit))
        return outcomes
