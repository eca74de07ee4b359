"""The event-driven simulator as a `System`, with everything that the model can be asked to do."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from envs.costs import build_cost_model
from envs.scenario import Scenario
from envs.simulation.events.episode import Episode
from envs.simulation.events.scene import Scene
from envs.system import Step
from runtime.errors import SystemFailure
from runtime.messages import Decision, Outcome, TauSpec
from runtime.models.examples import Examples
from runtime.profile import Profile


class EventSystem:
    """Implements `System`.  The same seed gives the same arrivals, pictures, rates, jitter and neighbours as live.

    Decisions are the legal ones of the profiled model; another one raises InvalidDecision.  No job trains here: a tau is dropped.
    Raises InvalidProfile when the profile does not fit the scenario.
    """

    def __init__(self, scenario: Scenario, profile: Profile, *, split: str = "validation", examples: Examples | None = None) -> None:
        """`examples`: the split's pictures; None loads them where somebody looks at pictures."""
        self.scenario, self.profile = scenario, profile
        self.cost_model = build_cost_model(profile, scenario, split=split)
        self._scene = Scene(scenario, profile, split, examples)
        self._episode: Episode | None = None
        self._request_id = -1

    def reset(self, seed: int) -> Step:
        """See System."""
        self._episode = Episode(self._scene, seed)
        return self._until_asked(self._episode)

    def execute(self, decision: Decision) -> Step:
        """See System.  Raises InvalidDecision for a decision that the model cannot carry out."""
        if self._episode is None or self._request_id < 0:
            raise SystemFailure("no request awaits a decision; call reset first")
        self._episode.decide(self._request_id, self._legal(decision))
        return self._until_asked(self._episode)

    def close(self) -> None:
        """Nothing to release."""
        self._episode, self._request_id = None, -1

    def replay(self, seed: int, decisions: Mapping[int, Decision], tau: TauSpec | None = None) -> tuple[Outcome, ...]:
        """Outcomes, in the order they ended, of the episode of `seed` with request i decided as `decisions[i]`.

        A request without a decision is refused, as one is that never got a decision live.
        """
        legal = {request_id: self._legal(decision) for request_id, decision in decisions.items()}
        episode = Episode(self._scene, seed)
        while (ask := episode.next_ask()) is not None:
            request_id = ask.observation.request_id
            if ask.refused or ask.skipped:
                continue
            if request_id in legal:
                episode.decide(request_id, legal[request_id])
            else:
                episode.abandon(request_id)
        self.close()
        return episode.take_ended()

    def _legal(self, decision: Decision) -> Decision:
        return self.cost_model.decisions[self.cost_model.find(msgspec.structs.replace(decision, tau=None))]

    def _until_asked(self, episode: Episode) -> Step:
        ask = episode.next_ask()
        while ask is not None and (ask.refused or ask.skipped):
            ask = episode.next_ask()
        self._request_id = ask.observation.request_id if ask is not None else -1
        return Step(observation=ask.observation if ask is not None else None, outcomes=episode.take_ended())
