"""A bundle as a policy: what the daemon decides with.  numpy only; neither torch nor stable-baselines3."""

from __future__ import annotations

import msgspec
import numpy as np

from agents.bundle import Bundle
from agents.network import MASKED_LOGIT
from agents.policy import NoDecision
from envs.features import Encoder, Features
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
        self._network, self._tau_network = bundle.network(), bundle.tau_network()
        self._taus = cost_model.job.taus if cost_model.job is not None else ()

    def reset(self, seed: int) -> None:
        """Nothing to draw: the policy is deterministic."""

    def decide(self, observation: Observation) -> Decision:
        """The allowed candidate with the highest score; with the tau of the highest score where one is due.

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
        decision = self._decisions[best]
        if self._tau_network is None or observation.job is None or not observation.job.tau_due:
            return decision
        return msgspec.structs.replace(decision, tau=self._best_tau(features, observation))

    def _best_tau(self, features: Features, observation: Observation) -> int:
        assert self._tau_network is not None
        assert features.taus is not None
        assert features.tau_mask is not None
        logits = self._tau_network.logits(features.state[0], features.taus[0], features.tau_mask[0])
        if not np.isfinite(logits.sum()):
            raise NoDecision(f"the tau network's scores for request {observation.request_id} are not finite")
        return self._taus[int(np.argmax(logits))]
