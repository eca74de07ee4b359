"""Which simulator a scenario is simulated by: the one place where that is chosen.

    vectorised   N environments as arrays, exact for what it models (envs/sim.py): all that it can be
    by events    the nodes' own state machines in virtual time (envs/simulation/events): the rest, some hundred times slower

`by_events` (envs/not_modelled.py) says what makes a scenario one of the second kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from envs.costs import CostModel
from envs.not_modelled import by_events
from envs.raw_state import RawState
from envs.scenario import Scenario
from envs.sim import POOL_SIZE, SimStep, VectorSim
from envs.simulated import SimulatedSystem
from envs.simulation.events.system import EventSystem
from envs.simulation.events.vector import EventSim
from envs.system import System
from runtime.errors import InvalidConfig
from runtime.messages import Decision, Outcome, TauSpec
from runtime.models.examples import Examples
from runtime.profile import Profile


class ReplayingSystem(System, Protocol):
    """A simulated system, which can play given decisions again."""

    cost_model: CostModel

    def replay(self, seed: int, decisions: Mapping[int, Decision], tau: TauSpec | None = None) -> tuple[Outcome, ...]:
        """Outcomes of the episode of `seed` with request i decided as `decisions[i]`, refused where there is none.

        `tau`: the rule of a job's tau, where decisions do not set it.
        """


class BatchSim(Protocol):
    """N simulated environments that step together; VectorSim says what is promised."""

    num_envs: int
    cost_model: CostModel

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What an action means."""

    @property
    def num_requests(self) -> int:
        """Steps of an episode."""

    def reset(self, seeds: Sequence[int] | np.ndarray) -> RawState:
        """Start the episodes of `seeds` [N]."""

    def step(self, actions: np.ndarray, tau_rows: np.ndarray | None = None) -> SimStep:
        """Decide the awaiting request of every environment, and where a job trains its taus."""

    @property
    def pending_cost(self) -> np.ndarray:
        """[N] cost of the unfinished requests, as far as it is known."""


def simulated_system(
    scenario: Scenario, profile: Profile, *, split: str = "validation", examples: Examples | None = None
) -> ReplayingSystem:
    """A scenario's simulator as a System.  Arguments and errors as of SimulatedSystem."""
    kind = EventSystem if by_events(scenario) else SimulatedSystem
    return kind(scenario, profile, split=split, examples=examples)


def batch_sim(
    scenario: Scenario,
    profile: Profile,
    num_envs: int,
    *,
    split: str = "validation",
    decisions: Sequence[Decision] | None = None,
    expected_error: bool = False,
    pool_size: int = POOL_SIZE,
) -> BatchSim:
    """A scenario's simulator for N environments.  Arguments and errors as of VectorSim; `pool_size` is for it alone.

    Raises InvalidConfig for a job beside nodes that are simulated by events.
    """
    reasons = by_events(scenario)
    if reasons and scenario.job is not None:
        raise InvalidConfig(
            f"a training job beside requests is simulated without {'; '.join(reasons)}: switch that off, or train without the job"
        )
    if reasons:
        return EventSim(scenario, profile, num_envs, split=split, decisions=decisions, expected_error=expected_error)
    return VectorSim(scenario, profile, num_envs, split=split, decisions=decisions, expected_error=expected_error, pool_size=pool_size)
