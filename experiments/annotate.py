"""From a played episode to records: each outcome joined with its request, its cost and what had been expected of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from envs.costs import CostModel
from envs.predictor import Predictor
from envs.reward import TRAINING_TERM, cost_terms
from envs.scenario import Scenario
from envs.workload import Requests, draw_requests
from experiments.placement import placement
from experiments.records import Record, SystemKind
from experiments.rollout import Choice, Episode
from experiments.simgap import Replayer, computed_as_decided, replay_episode
from runtime.errors import InvalidDecision, SystemFailure
from runtime.messages import Decision, Observation, Outcome

Forecast = Callable[[Observation, Decision], float | None]
"""Predicted latency, seconds, of a decision in the state that the policy saw; None for one it knows nothing of."""


class Knowledge(msgspec.Struct, frozen=True, kw_only=True):
    """What is known beside the outcomes; whatever is missing leaves its column empty."""

    exit_ends: tuple[int, ...] | None = None
    """Stages per exit of the model; needed to say which tiers a decision used."""
    num_examples: int | None = None
    """Pictures in the held-out split; needed to say which one a request brought."""
    forecast: Forecast | None = None
    replayer: Replayer | None = None
    """A simulator of the same scenario, to replay live decisions in."""


class Annotator:
    """Turns the episodes of one run into records."""

    def __init__(self, run: str, scenario: Scenario, system: SystemKind, knowledge: Knowledge) -> None:
        """`scenario` must be the played one: its workload tells when each request arrived."""
        self._run = run
        self._scenario = scenario
        self._system = system
        self._knowledge = knowledge

    def records(self, episode: Episode) -> list[Record]:
        """One record per outcome, by request id.  Raises SystemFailure for an outcome of a request that was never sent."""
        requests = draw_requests(self._scenario.workload, episode.seed, self._knowledge.num_examples or 1)
        replayer = self._knowledge.replayer
        simulated = replay_episode(replayer, episode) if replayer is not None else {}
        outcomes = sorted(episode.outcomes, key=lambda outcome: outcome.request_id)
        return [self._record(episode, requests, outcome, simulated.get(outcome.request_id)) for outcome in outcomes]

    def _record(self, episode: Episode, requests: Requests, outcome: Outcome, simulated: Outcome | None) -> Record:
        if not 0 <= outcome.request_id < len(requests.arrival_s):
            raise SystemFailure(f"an outcome for request {outcome.request_id}, but there are only {len(requests.arrival_s)}")
        choice = episode.choices.get(outcome.request_id)
        decision = outcome.decision if outcome.decision is not None else choice.decision if choice is not None else None
        terms = cost_terms(self._scenario.objective, outcome)
        if episode.job is not None:  # what it brought is shared out among the requests, so that their costs sum to the objective
            terms[TRAINING_TERM] = -self._scenario.objective.loss_drop * episode.job.loss_drop / len(requests.arrival_s)
        exit_ends = self._knowledge.exit_ends
        return Record(
            run=self._run,
            scenario=self._scenario.name,
            system=self._system,
            policy=episode.policy,
            seed=episode.seed,
            request_id=outcome.request_id,
            arrival_s=float(requests.arrival_s[outcome.request_id]),
            example=int(requests.example[outcome.request_id]) if self._knowledge.num_examples else None,
            status=outcome.status,
            message=outcome.message,
            decision=decision,
            decision_label=decision.label() if decision is not None else "",
            placement=placement(decision, exit_ends) if decision is not None and exit_ends is not None else "",
            decided_by="fallback" if choice is not None and choice.fallback else outcome.decided_by,
            decision_s=self._decision_s(outcome, choice),
            thinking_s=choice.decision_s if choice is not None else None,
            latency_s=outcome.latency_s,
            deadline_s=outcome.deadline_s,
            breakdown=outcome.breakdown,
            predicted_latency_s=self._forecast(choice, decision) if computed_as_decided(outcome) else None,
            simulated_latency_s=simulated.latency_s if simulated is not None and simulated.status == "ok" else None,
            simulated_status=simulated.status if simulated is not None else None,
            exit=outcome.exit,
            prediction=outcome.prediction,
            confidence=outcome.confidence,
            correct=outcome.correct,
            energy_joules=outcome.energy_joules,
            link_bytes=outcome.link_bytes,
            down_bytes=outcome.down_bytes,
            leakage=outcome.leakage,
            memory_bytes=outcome.memory_bytes,
            cost=sum(terms.values()),
            cost_terms=terms,
            reused=outcome.reused,
            reused_at=outcome.reused_at,
            handed_over=outcome.handed_over,
            handover_bytes=outcome.handover_bytes,
            job=episode.job,
        )

    def _forecast(self, choice: Choice | None, decision: Decision | None) -> float | None:
        """Of what was carried out, if that is what the policy chose: an answer that came too late was not."""
        if choice is None or choice.decision != decision or self._knowledge.forecast is None:
            return None
        return self._knowledge.forecast(choice.observation, choice.decision)

    def _decision_s(self, outcome: Outcome, choice: Choice | None) -> float | None:
        if self._system == "simulated":
            return choice.decision_s if choice is not None else None
        return outcome.breakdown.decision_s if outcome.decision is not None else None


def latency_forecast(cost_model: CostModel) -> Forecast:
    """The cost model's own prediction, for the decisions that it has."""
    predictor = Predictor(cost_model)

    def forecast(observation: Observation, decision: Decision) -> float | None:
        try:
            index = cost_model.find(decision)
        except InvalidDecision:
            return None
        return float(predictor.predict_one(observation).latency_s[index])

    return forecast
