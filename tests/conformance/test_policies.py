"""What every policy must do, learned or heuristic.  Registering a heuristic enrols it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.heuristics import HEURISTICS
from agents.learned import BundlePolicy
from agents.policy import Policy
from runtime.messages import Decision, LinkView, NodeView, Observation
from tests.agents.bundles import cost_models, make_bundle, record_observations
from tests.envs.profiles import make_observation

STATIC = {"cloud-only", "device-only", "edge-only"}
"""They do the same whatever happens; that is what they are for."""

MAKERS: dict[str, Callable[[], Policy]] = {
    **{name: lambda factory=factory: factory(*cost_models()) for name, factory in HEURISTICS.items()},  # type: ignore[misc]
    "learned": lambda: BundlePolicy(make_bundle()),
}

_seconds = st.floats(0, 1e3, allow_nan=False) | st.sampled_from([0.0, 1e-9, 0.05, 1e300])
_counts = st.integers(0, 10_000)


def _nodes(*, reachable: st.SearchStrategy[bool]) -> st.SearchStrategy[NodeView]:
    return st.builds(NodeView, backlog_s=_seconds, num_waiting=_counts, num_own=_counts, age_s=_seconds, reachable=reachable)


_links = st.builds(
    LinkView,
    rate_bytes_per_s=st.floats(0, 1e12) | st.sampled_from([0.0, 1e-300, 1e300]),
    delay_s=_seconds,
    outstanding_bytes=st.floats(0, 1e12),
    age_s=_seconds,
)
OBSERVATIONS = st.builds(
    Observation,
    request_id=st.integers(0, 2**40),
    model=st.just("digits-cnn"),
    at_s=_seconds,
    deadline_s=_seconds,
    num_in_flight=_counts,
    arrival_rate_per_s=st.floats(0, 1e6),
    nodes=st.tuples(_nodes(reachable=st.just(True)), _nodes(reachable=st.booleans()), _nodes(reachable=st.booleans())),
    links=st.tuples(_links, _links),
)
"""Any observation that can be built."""


@pytest.fixture(params=sorted(MAKERS))
def policy(request: pytest.FixtureRequest) -> Policy:
    """Each policy in turn."""
    return MAKERS[request.param]()


def _needs(decision: Decision) -> tuple[bool, bool]:
    """Whether it needs the edge (if only to relay), and the cloud."""
    everything, _ = cost_models()
    p, q = decision.cuts
    end = everything.exit_ends[decision.exit]
    return p < end, q < end


@given(observation=OBSERVATIONS)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_observation_gets_a_legal_decision(policy: Policy, observation: Observation) -> None:
    """Whatever can be observed, the decision is one that the model can carry out."""
    everything, _ = cost_models()
    everything.find(policy.decide(observation))


@given(observation=OBSERVATIONS)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_unreachable_tiers_are_not_decided_for(policy: Policy, observation: Observation) -> None:
    """But for the static ones, no policy sends work to a tier that does not answer, nor past it."""
    if policy.name in STATIC:
        return
    needs_edge, needs_cloud = _needs(policy.decide(observation))
    _, edge, cloud = observation.nodes
    assert edge.reachable or not needs_edge
    assert (edge.reachable and cloud.reachable) or not needs_cloud


def test_decisions_depend_on_the_seed_and_the_observations_alone(policy: Policy) -> None:
    """After reset with the same seed, the same observations give the same decisions; a fresh policy agrees."""
    observations = record_observations(300)
    policy.reset(7)
    first = [policy.decide(observation) for observation in observations]
    policy.reset(7)
    assert [policy.decide(observation) for observation in observations] == first
    other = MAKERS[policy.name]()
    other.reset(7)
    assert [other.decide(observation) for observation in observations] == first


def test_a_policy_is_registered_under_its_name(policy: Policy) -> None:
    """Reports find a policy by the name it carries."""
    assert MAKERS[policy.name]().name == policy.name


def test_the_registry_is_sorted() -> None:
    """A registry is one sorted literal, so that a missing entry is seen."""
    assert list(HEURISTICS) == sorted(HEURISTICS)


def test_random_draws_differ_between_seeds() -> None:
    """Different seeds give different random decisions, and all candidates are drawn."""
    policy = MAKERS["random"]()
    _, catalogue = cost_models()
    policy.reset(1)
    first = [policy.decide(make_observation()) for _ in range(500)]
    policy.reset(2)
    assert [policy.decide(make_observation()) for _ in range(500)] != first
    assert set(first) == set(catalogue.decisions)
