"""A tiny, honest world: one device, one edge, two queues, virtual time.  It keeps every promise of `System`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from agents.policy import NoDecision, Policy
from envs.scenario import EvaluationConfig, Scenario
from envs.system import Step
from envs.workload import WorkloadConfig, draw_requests
from runtime.errors import SystemFailure
from runtime.messages import Breakdown, Decision, LinkView, NodeView, Observation, Outcome, TauSpec
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig, TierConfig, Topology

EXIT_ENDS = (2, 4)
NUM_EXAMPLES = 50
STAGE_S = (0.020, 0.004, 0.002)
"""Seconds per stage on the device, the edge, the cloud."""
UPLINK_S, WAN_S = 0.012, 0.030
ACCURACY = (0.8, 0.95)

DEVICE = Decision(model="toy", variant="fp32", cuts=(4, 4), exit=1)
EARLY = Decision(model="toy", variant="fp32", cuts=(2, 2), exit=0)
EDGE = Decision(model="toy", variant="fp32", cuts=(0, 4), exit=1)
SPLIT = Decision(model="toy", variant="int8", cuts=(1, 2), exit=1)


def toy_scenario(num_requests: int = 60, seeds: tuple[int, ...] = (1, 2, 3)) -> Scenario:
    """Bursts that a device alone cannot keep up with."""
    return Scenario(
        name="toy",
        description="Bursts <for> two queues & a link",
        model="toy",
        topology=Topology(device=TierConfig(slowdown=8.0), uplink=LinkConfig(rate=ConstantRate(bytes_per_s=1e6), delay_s=0.012)),
        workload=WorkloadConfig(num_requests=num_requests, rate_per_s=8.0, burst_rate_per_s=40.0, deadline_s=0.3),
        evaluation=EvaluationConfig(seeds=seeds, num_requests=num_requests, max_repeats=0, keep_awake=False),
    )


class QueueSystem:
    """Two first-come-first-served queues between links of fixed delay; `scale` slows everything down a little."""

    def __init__(self, scenario: Scenario, scale: float = 1.0, controllers: Mapping[str, Policy] | None = None) -> None:
        self._scenario = scenario
        self._scale = scale
        self._controllers = controllers or {}
        self._controller: Policy | None = None
        self.num_closed = 0

    def reset(self, seed: int, controller: str | None = None) -> Step:
        """Empty queues; with `controller`, that one of the constructor's decides."""
        self._requests = draw_requests(self._scenario.workload, seed, NUM_EXAMPLES)
        self._rng = np.random.default_rng([seed, 5])
        self._luck = self._rng.random(len(self._requests.arrival_s))
        self._free_s = [0.0, 0.0, 0.0]
        self._pending: list[tuple[float, Outcome]] = []
        self._next = 0
        self._seed = seed
        self._controller = self._controllers[controller] if controller is not None else None
        if self._controller is not None:
            self._controller.reset(seed)
            return Step(observation=None, outcomes=())
        return Step(observation=self._observe(), outcomes=())

    def execute(self, decision: Decision) -> Step:
        """Play one request through the queues; hand over what has ended by the next arrival."""
        self._run(decision)
        if self._next < len(self._requests.arrival_s):
            return Step(observation=self._observe(), outcomes=self._ended(float(self._requests.arrival_s[self._next])))
        return Step(observation=None, outcomes=self._ended(float("inf")))

    def wait(self) -> Step:
        """Let the hosted controller decide one request."""
        assert self._controller is not None
        outcomes: tuple[Outcome, ...] = ()
        while not outcomes and (self._next < len(self._requests.arrival_s) or self._pending):
            if self._next < len(self._requests.arrival_s):
                self._run(self._controller.decide(self._observe()))
            now_s = float(self._requests.arrival_s[self._next]) if self._next < len(self._requests.arrival_s) else float("inf")
            outcomes = self._ended(now_s)
        return Step(observation=None, outcomes=outcomes)

    def replay(self, seed: int, decisions: Mapping[int, Decision], tau: TauSpec | None = None) -> tuple[Outcome, ...]:
        """The same requests with given decisions; EDGE where none is given."""
        step = self.reset(seed)
        outcomes = list(step.outcomes)
        while step.observation is not None:
            step = self.execute(decisions.get(step.observation.request_id, EDGE))
            outcomes += step.outcomes
        return tuple(outcomes)

    def close(self) -> None:
        """Count the call."""
        self.num_closed += 1

    def _observe(self) -> Observation:
        now_s = float(self._requests.arrival_s[self._next])
        views = tuple(NodeView(backlog_s=max(0.0, free_s - now_s), num_waiting=0, num_own=0, age_s=0.0) for free_s in self._free_s)
        link = LinkView(rate_bytes_per_s=1e6, delay_s=UPLINK_S, outstanding_bytes=0.0, age_s=0.0)
        return Observation(
            request_id=self._next,
            model="toy",
            at_s=now_s,
            deadline_s=self._scenario.workload.deadline_s,
            num_in_flight=len(self._pending),
            arrival_rate_per_s=8.0,
            nodes=(views[0], views[1], views[2]),
            links=(link, link),
        )

    def _run(self, decision: Decision) -> None:
        request_id, arrival_s = self._next, float(self._requests.arrival_s[self._next])
        self._next += 1
        p, q = decision.cuts
        bounds = (0, p, q, EXIT_ENDS[decision.exit])
        now_s, queue_s, compute_s, transfer_s = arrival_s, [0.0] * 3, [0.0] * 3, [0.0, 0.0]
        for tier in range(3):
            if tier > 0 and bounds[tier] < bounds[3]:
                transfer_s[tier - 1] = (UPLINK_S, WAN_S)[tier - 1] * self._scale
                now_s += transfer_s[tier - 1]
            if bounds[tier + 1] > bounds[tier]:
                compute_s[tier] = (bounds[tier + 1] - bounds[tier]) * STAGE_S[tier] * self._scale
                start_s = max(now_s, self._free_s[tier])
                queue_s[tier] = start_s - now_s
                now_s = self._free_s[tier] = start_s + compute_s[tier]
        latency_s, deadline_s = now_s - arrival_s, self._scenario.workload.deadline_s
        late = latency_s > deadline_s
        breakdown = Breakdown(
            queue_s=(queue_s[0], queue_s[1], queue_s[2]),
            compute_s=(compute_s[0], compute_s[1], compute_s[2]),
            transfer_s=(transfer_s[0], transfer_s[1]),
            decision_s=0.001 if self._controller is not None else 0.0,
        )
        outcome = Outcome(
            request_id=request_id,
            status="deadline" if late else "ok",
            decision=decision,
            decided_by="controller" if self._controller is not None else "client",
            latency_s=deadline_s if late else latency_s,
            deadline_s=deadline_s,
            breakdown=breakdown,
            prediction=None if late else 3,
            correct=None if late else bool(self._luck[request_id] < ACCURACY[decision.exit]),
            energy_joules=4.74 * compute_s[0],
            link_bytes=(3000 if transfer_s[0] else 0, 500 if transfer_s[1] else 0),
        )
        self._pending.append((arrival_s + outcome.latency_s, outcome))

    def _ended(self, now_s: float) -> tuple[Outcome, ...]:
        ended = sorted((entry for entry in self._pending if entry[0] <= now_s), key=lambda entry: entry[0])
        self._pending = [entry for entry in self._pending if entry[0] > now_s]
        return tuple(outcome for _, outcome in ended)


class Fixed:
    """Always the same decision."""

    def __init__(self, name: str, decision: Decision) -> None:
        self.name = name
        self._decision = decision

    def reset(self, seed: int) -> None:
        """Nothing to draw."""

    def decide(self, observation: Observation) -> Decision:
        """The decision."""
        return self._decision


class ShortestQueue:
    """The device while its queue is short, else the edge: better than either alone."""

    def __init__(self, name: str = "learned", limit_s: float = 0.05) -> None:
        self.name = name
        self._limit_s = limit_s

    def reset(self, seed: int) -> None:
        """Nothing to draw."""

    def decide(self, observation: Observation) -> Decision:
        """By the queues seen."""
        if observation.nodes[1].backlog_s > self._limit_s and observation.nodes[0].backlog_s < self._limit_s:
            return EARLY
        return EDGE if observation.nodes[1].backlog_s < 2 * self._limit_s else SPLIT


class Coin:
    """A random one of the four, by the episode's seed."""

    name = "random"

    def reset(self, seed: int) -> None:
        """Seed the coin."""
        self._rng = np.random.default_rng(seed)

    def decide(self, observation: Observation) -> Decision:
        """Any."""
        return (DEVICE, EARLY, EDGE, SPLIT)[int(self._rng.integers(4))]


class Undecided(Fixed):
    """Has no decision for every third request."""

    def decide(self, observation: Observation) -> Decision:
        """Raises NoDecision now and then."""
        if observation.request_id % 3 == 0:
            raise NoDecision("out of my depth")
        return super().decide(observation)


class Breaking(QueueSystem):
    """Breaks in the middle of chosen episodes: `breaks(seed, number of episodes played so far)`."""

    def __init__(self, scenario: Scenario, breaks: Callable[[int], bool]) -> None:
        super().__init__(scenario)
        self._breaks = breaks

    def execute(self, decision: Decision) -> Step:
        """Raises SystemFailure half-way where told so."""
        if self._next == 10 and self._breaks(self._seed):
            raise SystemFailure("the edge node died")
        return super().execute(decision)


def toy_players() -> dict[str, Policy]:
    """One of each kind; `learned` is the best."""
    return {
        "learned": ShortestQueue(),
        "device-only": Fixed("device-only", DEVICE),
        "edge-only": Fixed("edge-only", EDGE),
        "random": Coin(),
        "greedy": ShortestQueue("greedy", 0.2),
    }
