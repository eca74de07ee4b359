"""A bundle as a policy: what the daemon decides with.  numpy only; neither torch nor stable-baselines3."""

from __future__ import annotations

import numpy as np

from agents.bundle import Bundle
from agents.network import MASKED_LOGIT
from agents.policy import NoDecision
from envs.features import Encoder
from runtime.messages import Decision, Observation


class BundlePolicy:
    """Decides by the highest score.  One per thread: its network reuses its work arrays."""

    name = "learned"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        cost_model = bundle.manifest.cost_model
        self._model = cost_model.model
        self._decisions = cost_model.decisions
        self._encoder = Encoder(cost_model)
        self._network = bundle.network()

    def reset(self, seed: int) -> None:
        """Nothing to draw: the policy is deterministic."""

    def decide(self, observation: Observation) -> Decision:
        """The allowed candidate with the highest score.

        Raises NoDecision for another model, when no candidate can be reached, and when a score is not finite.
        """
        if observation.model != self._model:
            raise NoDecision(f"the bundle decides for model {self._model!r}, request {observation.request_id} wants {observation.model!r}")
        features = self._encoder.encode_one(observation)
        logits = self._network.logits(features.state[0], features.candidates[0], features.mask[0])
        best = int(np.argmax(logits))
        # The sum is finite only if every score is: one test instead of K.
        if not np.isfinite(logits.sum()):
            raise NoDecision(f"the network's scores for request {observation.request_id} are not finite")
        if logits[best] <= MASKED_LOGIT:
            raise NoDecision(f"no candidate is reachable for request {observation.request_id}")
        return self._decisions[best]
