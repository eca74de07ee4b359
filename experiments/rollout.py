"""The only loop that plays an episode: any system, any policy, asked here or asked by the device through a daemon."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from agents.policy import NoDecision, Policy
from envs.system import JobReport, Step, System, TrainingSystem
from runtime.errors import InvalidInput, SystemFailure
from runtime.messages import Decision, Observation, Outcome, TauSpec


class RemotePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy behind an endpoint: the device asks it itself, over the network, as in production."""

    name: str
    endpoint: str
    """Where the daemon answers, `tcp://host:port`."""


class WithTau(msgspec.Struct, frozen=True, kw_only=True):
    """A player beside whose requests the job's tau follows a rule of its own, whatever taus the player decides."""

    name: str
    player: Policy | RemotePolicy
    tau: TauSpec


Player = Policy | RemotePolicy | WithTau
"""Whoever decides in an episode."""


@runtime_checkable
class HostedSystem(Protocol):
    """A system whose device can ask a controller itself."""

    def reset(self, seed: int, controller: str | None = None, tau: TauSpec | None = None) -> Step:
        """Start an episode; with `controller`, the device asks that endpoint and no observation reaches us.  `tau`: see TrainingSystem."""

    def execute(self, decision: Decision) -> Step:
        """As `System.execute`."""

    def wait(self) -> Step:
        """Block until requests have ended; a step with none says that the episode is over."""

    def close(self) -> None:
        """As `System.close`."""


class Observer(Protocol):
    """Watches an episode: progress bars, recorders."""

    def __call__(self, step: Step, num_ended: int) -> None:
        """Called after each step; `num_ended` counts the episode's outcomes so far."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One decision taken in this process: what the policy saw, what it said, how long it took."""

    observation: Observation
    decision: Decision
    decision_s: float
    fallback: bool
    """The policy had no decision, and another one stood in."""


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """One played episode."""

    policy: str
    seed: int
    outcomes: tuple[Outcome, ...]
    """In the order they ended."""
    choices: dict[int, Choice]
    """By request id; empty when the device asked a remote policy."""
    wall_s: float
    tau: TauSpec | None = None
    """The rule of the job's tau, where it was not decided."""
    job: JobReport | None = None
    """What the job beside the requests came to."""


def run_episode(
    system: System,
    player: Player,
    seed: int,
    observers: Sequence[Observer] = (),
    *,
    num_requests: int | None = None,
    fallback: Policy | None = None,
) -> Episode:
    """Play one episode to its end.

    `num_requests`, when given, must be what ended.  `fallback` decides where `player` raises NoDecision.
    Raises SystemFailure when the system breaks its promise (a request that ended twice, or never), InvalidInput
    for a remote policy on a system that cannot host one; whatever system and policy raise passes through.
    """
    started_s = time.perf_counter()
    name, tau = player.name, player.tau if isinstance(player, WithTau) else None
    decider = player.player if isinstance(player, WithTau) else player
    outcomes: dict[int, Outcome] = {}
    choices: dict[int, Choice] = {}
    step: Step | None = _reset(system, decider, seed, fallback, tau)
    while step is not None:
        _collect(step, outcomes)
        for observe in observers:
            observe(step, len(outcomes))
        if step.observation is not None:
            choice = _choose(decider, fallback, step.observation)
            choices[choice.observation.request_id] = choice
            step = system.execute(choice.decision)
        elif isinstance(decider, RemotePolicy) and step.outcomes and len(outcomes) != num_requests:
            step = _hosted(system).wait()
        else:
            step = None
    if num_requests is not None and len(outcomes) != num_requests:
        raise SystemFailure(f"{name}, seed {seed}: {len(outcomes)} requests ended, expected {num_requests}")
    wall_s = time.perf_counter() - started_s
    report = system.job_report() if isinstance(system, TrainingSystem) else None
    return Episode(
        policy=name, seed=seed, outcomes=tuple(outcomes.values()), choices=choices, wall_s=wall_s, tau=tau, job=report
    )  # fmt: skip


def _reset(system: System, player: Policy | RemotePolicy, seed: int, fallback: Policy | None, tau: TauSpec | None) -> Step:
    if isinstance(player, RemotePolicy):
        hosted = _hosted(system)
        rule = {} if tau is None else {"tau": tau}
        step = hosted.reset(seed, controller=player.endpoint, **rule)
        return step if step.outcomes else hosted.wait()  # from here on, an empty step says that it is over
    player.reset(seed)
    if fallback is not None:
        fallback.reset(seed)
    if tau is None:
        return system.reset(seed)
    if not isinstance(system, TrainingSystem):
        raise InvalidInput(f"{type(system).__name__} trains no job whose tau could follow a rule; play {player.name} alone")
    return system.reset(seed, tau=tau)


def _hosted(system: object) -> HostedSystem:
    if not isinstance(system, HostedSystem):
        raise InvalidInput(f"{type(system).__name__} has no device that could ask a remote policy; play the policy itself")
    return system


def _collect(step: Step, outcomes: dict[int, Outcome]) -> None:
    for outcome in step.outcomes:
        if outcome.request_id in outcomes:
            raise SystemFailure(f"request {outcome.request_id} ended twice")
        outcomes[outcome.request_id] = outcome


def _choose(player: Policy | RemotePolicy, fallback: Policy | None, observation: Observation) -> Choice:
    if isinstance(player, RemotePolicy):
        raise SystemFailure(f"asked to decide request {observation.request_id}, though {player.endpoint} was to be asked")
    started_s = time.perf_counter()
    stood_in = False
    try:
        decision = player.decide(observation)
    except NoDecision:
        if fallback is None:
            raise
        decision, stood_in = fallback.decide(observation), True
    decision_s = time.perf_counter() - started_s
    return Choice(observation=observation, decision=decision, decision_s=decision_s, fallback=stood_in)
