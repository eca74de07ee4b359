"""The one loop: local and remote players, and systems that break their promises."""

from __future__ import annotations

import msgspec
import pytest

from agents.policy import NoDecision
from envs.system import Step
from experiments.rollout import RemotePolicy, run_episode
from runtime.errors import InvalidInput, SystemFailure
from runtime.messages import Decision
from tests.experiments.worlds import DEVICE, EDGE, Breaking, Coin, Fixed, QueueSystem, ShortestQueue, Undecided, toy_scenario


def test_every_request_has_one_outcome_and_one_choice() -> None:
    """All requests end once, and each was decided from an observation of its own."""
    episode = run_episode(QueueSystem(toy_scenario()), Fixed("edge-only", EDGE), seed=1, num_requests=60)
    assert sorted(outcome.request_id for outcome in episode.outcomes) == list(range(60))
    assert all(choice.observation.request_id == key for key, choice in episode.choices.items())
    assert len(episode.choices) == 60
    assert episode.policy == "edge-only"
    assert episode.wall_s > 0


def test_the_same_seed_plays_the_same_episode() -> None:
    """Policies that draw are seeded with the episode's seed."""
    first, again = (run_episode(QueueSystem(toy_scenario()), Coin(), seed=7) for _ in range(2))
    assert first.outcomes == again.outcomes


def test_a_remote_policy_decides_as_the_same_policy_here() -> None:
    """Asked by the device or by us: same decisions, same latencies, same episode; only who was asked differs."""
    scenario = toy_scenario()
    hosted = QueueSystem(scenario, controllers={"tcp://daemon:1": ShortestQueue()})
    remote = run_episode(hosted, RemotePolicy(name="learned", endpoint="tcp://daemon:1"), seed=3, num_requests=60)
    local = run_episode(QueueSystem(scenario), ShortestQueue(), seed=3, num_requests=60)
    here = {outcome.request_id: (outcome.decision, outcome.latency_s) for outcome in local.outcomes}
    assert {outcome.request_id: (outcome.decision, outcome.latency_s) for outcome in remote.outcomes} == here
    assert remote.choices == {}
    assert {outcome.decided_by for outcome in remote.outcomes} == {"controller"}


def test_a_remote_episode_ends_without_knowing_its_length() -> None:
    """A wait that brings nothing says that it is over."""
    hosted = QueueSystem(toy_scenario(), controllers={"tcp://daemon:1": ShortestQueue()})
    assert len(run_episode(hosted, RemotePolicy(name="learned", endpoint="tcp://daemon:1"), seed=3).outcomes) == 60


def test_observers_see_every_outcome() -> None:
    """The counts that observers hear rise to the number of requests."""
    counts: list[int] = []
    run_episode(QueueSystem(toy_scenario()), Fixed("d", DEVICE), seed=1, observers=[lambda step, num_ended: counts.append(num_ended)])
    assert counts == sorted(counts)
    assert counts[-1] == 60


def test_a_fallback_stands_in_where_a_policy_has_no_decision() -> None:
    """Every third decision is the fallback's, and is marked."""
    episode = run_episode(QueueSystem(toy_scenario()), Undecided("half", DEVICE), seed=1, fallback=Fixed("edge-only", EDGE))
    assert all(choice.fallback == (key % 3 == 0) for key, choice in episode.choices.items())
    assert all(choice.decision == (EDGE if choice.fallback else DEVICE) for choice in episode.choices.values())


def test_without_a_fallback_no_decision_is_an_error() -> None:
    """Nothing is decided silently."""
    with pytest.raises(NoDecision):
        run_episode(QueueSystem(toy_scenario()), Undecided("half", DEVICE), seed=1)


def test_a_system_without_a_device_cannot_host() -> None:
    """A remote policy needs somebody who asks it."""

    class Plain:
        """Only what `System` asks for."""

        def reset(self, seed: int) -> Step:
            """Nothing to play."""
            return Step(observation=None, outcomes=())

        def execute(self, decision: Decision) -> Step:
            """Never called."""
            raise AssertionError

        def close(self) -> None:
            """Nothing to release."""

    with pytest.raises(InvalidInput, match="no device"):
        run_episode(Plain(), RemotePolicy(name="r", endpoint="tcp://x:1"), seed=1)


class Twice(QueueSystem):
    """Ends a request twice."""

    def execute(self, decision: Decision) -> Step:
        """Hand every outcome over again with the next step."""
        step = super().execute(decision)
        step = msgspec.structs.replace(step, outcomes=(*step.outcomes, *getattr(self, "_before", ())))
        self._before = step.outcomes
        return step


class Forgetful(QueueSystem):
    """Loses what ends last."""

    def execute(self, decision: Decision) -> Step:
        """An episode's last step without its outcomes."""
        step = super().execute(decision)
        return step if step.observation is not None else Step(observation=None, outcomes=())


@pytest.mark.parametrize(("system", "complaint"), [(Twice, "ended twice"), (Forgetful, "expected 60")])
def test_broken_promises_are_system_failures(system: type[QueueSystem], complaint: str) -> None:
    """Outcomes that come twice or never do not become statistics."""
    with pytest.raises(SystemFailure, match=complaint):
        run_episode(system(toy_scenario()), Fixed("edge-only", EDGE), seed=1, num_requests=60)


def test_a_failing_system_is_heard_of() -> None:
    """What the system raises passes through."""
    with pytest.raises(SystemFailure, match="edge node died"):
        run_episode(Breaking(toy_scenario(), lambda seed: True), Fixed("edge-only", EDGE), seed=1)
