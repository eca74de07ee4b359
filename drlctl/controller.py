"""The daemon's mind: observations in, decisions out, and the reason why.  Pure: no sockets, no clock, no files.

    observation of the bundle's model, fresh, finite scores    the learned policy decides      policy
    ... of a model that a cost model was given for             greedy decides                  unknown_model
    ... of any other model                                     refused: the device falls back  unknown_model
    ... that tells of other exits' difficulty than it        refused: the device falls back  other_difficulty
        was trained to be told
    ... whose telemetry is too old to be believed              greedy decides                  stale_telemetry
    ... on which the network's output is not finite            greedy decides                  non_finite
    ... on which greedy has no answer either                   refused                         no_decision

Greedy is the best of the heuristics on the predicted cost; it runs on the cost model inside the bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from agents.bundle import Bundle
from agents.heuristics.greedy import Greedy
from agents.learned import BundlePolicy
from agents.policy import NoDecision, Policy
from envs.costs import CostModel
from runtime.messages import Decided, Observation, Refused

Reason = Literal["policy", "unknown_model", "other_difficulty", "stale_telemetry", "non_finite", "no_decision"]


class Answer(NamedTuple):
    """What to tell the device, and why."""

    message: Decided | Refused
    reason: Reason

    @property
    def by(self) -> str:
        """`controller`, `fallback`, or `nobody` for a refusal."""
        return self.message.decided_by if isinstance(self.message, Decided) else "nobody"


class Mind(NamedTuple):
    """A bundle made ready to decide; making it is the slow part, and any thread may do it."""

    bundle: Bundle
    policy: Policy
    greedy: Policy
    max_age_s: float
    """A reachable tier's report older than this is stale."""


def prepare(bundle: Bundle, max_age_s: float | None = None) -> Mind:
    """Make a bundle ready.  Without `max_age_s`, telemetry is stale once a silent peer would count as lost."""
    cost_model = bundle.manifest.cost_model
    policy, greedy = BundlePolicy(bundle), Greedy(cost_model)
    policy.reset(seed=0)
    greedy.reset(seed=0)
    return Mind(bundle, policy, greedy, cost_model.peer_timeout_s if max_age_s is None else max_age_s)


class Controller:
    """Answers observations with the bundle in use."""

    def __init__(self, mind: Mind, others: Sequence[CostModel] = ()) -> None:
        """`others`: cost models of models that the bundle does not cover; greedy decides for them."""
        self._mind = mind
        self._model = mind.bundle.manifest.cost_model.model
        self._others = {cost_model.model: Greedy(cost_model) for cost_model in others}

    @property
    def mind(self) -> Mind:
        """What decides now."""
        return self._mind

    @property
    def model(self) -> str:
        """The model that the bundle decides for."""
        return self._model

    def swap(self, mind: Mind) -> None:
        """Decide with another bundle from the next observation on.

        Raises InvalidBundle, and keeps the old one, when it was trained for another catalogue, on other features, to be told other
        exits' difficulty, or for other taus.
        """
        mind.bundle.check_catalogue(self._mind.bundle.manifest.catalogue_digest)
        mind.bundle.check_difficulty(self._mind.bundle.manifest.cost_model)
        mind.bundle.check_taus(self._mind.bundle.manifest.cost_model.job)
        mind.bundle.check_features(self._mind.bundle.manifest.cost_model)
        self._mind = mind

    def answer(self, observation: Observation) -> Answer:
        """Decide one request.  Never raises, whatever the observation."""
        with np.errstate(all="ignore"):  # what is not finite is caught by its value, not by a warning
            return self._answer(observation)

    def _answer(self, observation: Observation) -> Answer:
        mind = self._mind
        if observation.model != self._model:
            return self._foreign(observation)
        expected, told = len(mind.bundle.manifest.cost_model.difficulty), len(observation.difficulty)
        if expected not in (0, told):  # a bundle that was trained without just does not look
            text = f"the bundle was trained to be told the difficulty of {expected} exits, the device tells that of {told}"
            return Answer(Refused(request_id=observation.request_id, message=text), "other_difficulty")
        if _is_stale(observation, mind.max_age_s):
            return _fall_back(mind.greedy, observation, "stale_telemetry")
        try:
            decision = mind.policy.decide(observation)
        except (NoDecision, ArithmeticError, ValueError):
            return _fall_back(mind.greedy, observation, "non_finite")
        return Answer(Decided(request_id=observation.request_id, decision=decision), "policy")

    def _foreign(self, observation: Observation) -> Answer:
        greedy = self._others.get(observation.model)
        if greedy is not None:
            return _fall_back(greedy, observation, "unknown_model")
        text = f"this controller decides for {self._model!r}, not for {observation.model!r}"
        return Answer(Refused(request_id=observation.request_id, message=text), "unknown_model")


def _is_stale(observation: Observation, max_age_s: float) -> bool:
    """Whether a tier that counts as reachable has been silent for too long.  The device speaks for itself."""
    _, edge, cloud = observation.nodes
    return (edge.reachable and edge.age_s > max_age_s) or (cloud.reachable and cloud.age_s > max_age_s)


def _fall_back(greedy: Policy, observation: Observation, reason: Reason) -> Answer:
    try:
        decision = greedy.decide(observation)
    except (NoDecision, ArithmeticError, ValueError) as exc:
        return Answer(Refused(request_id=observation.request_id, message=f"{reason}, and greedy has no answer: {exc}"), "no_decision")
    return Answer(Decided(request_id=observation.request_id, decision=decision, decided_by="fallback"), reason)
