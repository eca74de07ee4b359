"""N episodes of one scenario side by side, simulated by events: what VectorSim is for training, slower and complete."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from envs.catalogue import catalogued
from envs.predictor import Predictor
from envs.raw_state import RawState
from envs.reward import cost
from envs.scenario import Scenario
from envs.sim import SimStep
from envs.simulation.events.episode import Ask, Episode
from envs.simulation.events.scene import Scene
from envs.simulation.setup import Answers
from envs.simulation.world import Ended
from runtime.errors import InvalidDecision
from runtime.messages import Decision, Outcome
from runtime.models.examples import Examples
from runtime.profile import Profile


class EventSim:
    """N environments; arguments, steps and errors as of VectorSim, with these differences.

    Every episode is drawn from a seed of its own.  Requests come in the order in which the devices ask for decisions, which
    for inputs that are looked at need not be that of their arrival.  `pending_cost` is what was predicted.
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
        examples: Examples | None = None,
    ) -> None:
        self.cost_model = catalogued(scenario, profile, split, decisions)
        self.num_envs, self._expected_error = num_envs, expected_error
        self._scene = Scene(scenario, profile, split, examples)
        self._answers = Answers(self.cost_model, profile, split, expected_error)
        self._predictor = Predictor(self.cost_model)
        self._envs = np.arange(num_envs)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What an action means: action a is decisions[a]."""
        return self.cost_model.decisions

    @property
    def num_requests(self) -> int:
        """Steps of an episode."""
        return self._scene.scenario.workload.num_requests

    def reset(self, seeds: Sequence[int] | np.ndarray) -> RawState:
        """Start the episodes of `seeds` [N]; later ones' seeds are drawn, depending on `seeds` only."""
        first = [int(seed) for seed in seeds]
        if len(first) != self.num_envs:
            raise ValueError(f"one seed per environment, {self.num_envs}; got {len(first)}")
        self._rng = np.random.default_rng([seed & 0xFFFFFFFF for seed in first])
        return self._start(first)

    def step(self, actions: np.ndarray, tau_rows: np.ndarray | None = None) -> SimStep:
        """Decide the awaiting request of every environment: `actions` int [N].  No job trains here, so there is no tau to decide.

        The step after the last request of an episode waits for all that are left, and starts another episode.
        """
        if tau_rows is not None:
            raise InvalidDecision("nothing here has a tau to decide: no job trains where nodes are simulated by events")
        chosen = np.asarray(actions, dtype=np.int64)
        predicted = self._predictor.run(self._raw).cost[chosen, self._envs].tolist()
        for env, (ask, action) in enumerate(zip(self._asks, chosen.tolist(), strict=True)):
            if not (ask.refused or ask.skipped):
                request_id = ask.observation.request_id
                self._actions[env][request_id], self._pending[env][request_id] = action, predicted[env]
                self._episodes[env].decide(request_id, self.decisions[action])
        self._index += 1
        over = self._index == self.num_requests
        asks = [episode.next_ask() for episode in self._episodes]
        ended = self._take_ended()
        raw = self._start(self._rng.integers(2**32, size=self.num_envs).tolist()) if over else self._observe(asks)
        return SimStep(
            raw=raw,
            reward=-np.bincount(ended.env, ended.cost, self.num_envs),
            done=np.full(self.num_envs, over),
            ended=ended,
            loss_drop=np.zeros(self.num_envs),
        )

    @property
    def pending_cost(self) -> np.ndarray:
        """[N] cost of the unfinished requests as predicted when they were decided.

        Minus this is a potential for reward shaping as VectorSim's is: it is 0 before and after an episode.
        """
        return np.array([sum(pending.values()) for pending in self._pending], dtype=np.float64)

    # ------------------------------------------------------------ episodes

    def _start(self, seeds: Sequence[int]) -> RawState:
        self._episodes = [Episode(self._scene, seed) for seed in seeds]
        self._actions: list[dict[int, int]] = [{} for _ in seeds]
        self._pending: list[dict[int, float]] = [{} for _ in seeds]
        self._index = 0
        return self._observe([episode.next_ask() for episode in self._episodes])

    def _observe(self, asks: Sequence[Ask | None]) -> RawState:
        """Before an episode's last request has been decided, there is always one more."""
        self._asks = [ask for ask in asks if ask is not None]
        assert len(self._asks) == self.num_envs, "every request asks exactly once"
        self._raw = RawState.from_observations([ask.observation for ask in self._asks])
        return self._raw

    def _take_ended(self) -> Ended:
        found = [(env, outcome) for env, episode in enumerate(self._episodes) for outcome in episode.take_ended()]
        for env, outcome in found:
            self._pending[env].pop(outcome.request_id, None)
        priced = msgspec.structs.replace
        costs = [cost(self._scene.scenario.objective, priced(one, correct=None) if one.status == "ok" else one) for _, one in found]
        envs = np.array([env for env, _ in found], dtype=np.int64)
        requests = np.array([one.request_id for _, one in found], dtype=np.int64)
        return Ended(
            entry=requests,
            env=envs,
            request=requests,
            cost=np.array(costs) + self._scene.scenario.objective.error * self._wrong(found),
            latency_s=np.array([one.latency_s for _, one in found], dtype=np.float64),
            answered=np.array([one.status == "ok" for _, one in found], dtype=np.bool_),
        )

    def _wrong(self, found: Sequence[tuple[int, Outcome]]) -> np.ndarray:
        """[n] whether answers are wrong, or how probably; 0 of those without an answer, who have paid.

        Reused answers are as right as they are: of whom they are expected is not known any more.
        """
        wrong = np.array([float(one.correct is False and one.status == "ok") for _, one in found])
        computed = [n for n, (_, one) in enumerate(found) if one.status == "ok" and one.reused == "no"]
        if self._expected_error and computed:
            actions = np.array([self._actions[env][one.request_id] for env, one in (found[n] for n in computed)])
            examples = np.array([self._episodes[env].requests.example[one.request_id] for env, one in (found[n] for n in computed)])
            wrong[computed] = self._answers.wrong(self._answers.ways(actions, examples), examples)
        return wrong
