"""The controller's mind: who decides, why, and that it always answers."""

from __future__ import annotations

import math
from functools import lru_cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.heuristics.greedy import Greedy
from agents.learned import BundlePolicy
from drlctl.controller import Controller, prepare
from envs.catalogue import decisions_digest
from envs.costs import build_cost_model
from envs.job_traits import JobTraits
from runtime.errors import InvalidBundle
from runtime.messages import Decided, JobView, LinkView, NodeView, Observation, Refused
from tests.drlctl.bundles import make_bundle, make_cost_model
from tests.envs.profiles import looking, make_observation, make_profile, make_scenario, with_difficulty


def test_the_bundle_decides_what_it_covers() -> None:
    """A fresh observation of the bundle's model gets the learned policy's decision, under its own request id."""
    observation = make_observation(request_id=7)
    answer = Controller(prepare(make_bundle())).answer(observation)
    assert answer.message == Decided(request_id=7, decision=BundlePolicy(make_bundle()).decide(observation), decided_by="controller")
    assert (answer.by, answer.reason) == ("controller", "policy")


def test_an_unknown_model_is_refused() -> None:
    """Without a cost model for it nobody here can decide: the device is told so, and which model is covered."""
    answer = Controller(prepare(make_bundle())).answer(make_observation(model="other"))
    assert isinstance(answer.message, Refused)
    assert "digits-cnn" in answer.message.message
    assert (answer.by, answer.reason) == ("nobody", "unknown_model")


def test_greedy_decides_for_a_model_with_a_cost_model() -> None:
    """A model outside the bundle, of which a cost model is known, is greedy's."""
    other = make_cost_model("other")
    observation = make_observation(model="other")
    answer = Controller(prepare(make_bundle()), [other]).answer(observation)
    assert answer.message == Decided(request_id=1, decision=Greedy(other).decide(observation), decided_by="fallback")
    assert (answer.by, answer.reason) == ("fallback", "unknown_model")


def test_other_exits_difficulty_is_refused() -> None:
    """A bundle that was trained to be told needs it, of its own exits; one that was not does not look at it."""
    scenario = looking(make_scenario())
    every = build_cost_model(with_difficulty(make_profile(scenario)), scenario)
    told = every.restrict(make_cost_model().decisions)
    controller = Controller(prepare(make_bundle(cost_model=told)))
    assert controller.answer(make_observation(difficulty=(0.1,) * 4)).reason == "policy"
    for wrong in ((), (0.1, 0.2)):
        answer = controller.answer(make_observation(difficulty=wrong))
        assert isinstance(answer.message, Refused)
        assert f"of 4 exits, the device tells that of {len(wrong)}" in answer.message.message
        assert (answer.by, answer.reason) == ("nobody", "other_difficulty")
    usual = Controller(prepare(make_bundle()))
    assert usual.answer(make_observation(difficulty=(0.1,))).message == usual.answer(make_observation()).message
    with pytest.raises(InvalidBundle, match=r"fp32 exit 0, .* here it is that of no exit"):
        usual.swap(prepare(make_bundle(cost_model=told)))


def test_other_features_are_refused() -> None:
    """A bundle that was trained where nodes load models sees a feature more: it is not swapped for one that does not, nor the other way."""
    plain = make_cost_model()
    cold = msgspec.structs.replace(plain, load_s=((0.05, 0.05, 0.05),) * plain.num_decisions)
    for one, other in ((plain, cold), (cold, plain)):
        controller = Controller(prepare(make_bundle(cost_model=one)))
        with pytest.raises(InvalidBundle, match="trained on features"):
            controller.swap(prepare(make_bundle(cost_model=other)))
        assert controller.mind.bundle.manifest.cost_model == one


TRAITS = JobTraits(taus=(1, 5, 20), tau=5, step_s=0.1, up_bytes=300_000.0, initial_loss=2.0)
VIEW = JobView(
    num_rounds=3, tau=5, num_steps=4, since_s=0.6, last_round_s=0.9, loss=1.0, loss_drop=0.25, outstanding_bytes=0.0, tau_due=True
)  # fmt: skip


def test_a_tau_is_decided_with_a_request_where_one_is_due() -> None:
    """Of the job's; greedy, when it stands in, leaves the job alone; a bundle for other taus, or for none, is not swapped in."""
    told = msgspec.structs.replace(make_cost_model(), job=TRAITS)
    controller = Controller(prepare(make_bundle(cost_model=told)))
    due = controller.answer(make_observation(job=VIEW)).message
    assert isinstance(due, Decided)
    assert due.decision.tau in TRAITS.taus
    for job in (None, msgspec.structs.replace(VIEW, tau_due=False)):
        message = controller.answer(make_observation(job=job)).message
        assert isinstance(message, Decided)
        assert message.decision.tau is None
    stale = controller.answer(make_observation(job=VIEW, edge__age_s=1e3))
    assert stale.reason == "stale_telemetry"
    assert isinstance(stale.message, Decided)
    assert stale.message.decision.tau is None
    others = msgspec.structs.replace(told, job=msgspec.structs.replace(TRAITS, taus=(5, 50)))
    for bundle in (make_bundle(cost_model=others), make_bundle()):
        with pytest.raises(InvalidBundle, match=r"here it is to decide tau among 1, 5, 20"):
            controller.swap(prepare(bundle))


@pytest.mark.parametrize("tier", ["edge", "cloud"])
def test_stale_telemetry_is_greedys(tier: str) -> None:
    """A report older than a silent peer's time limit is not fed to the network."""
    limit_s = make_cost_model().peer_timeout_s
    observation = make_observation(**{f"{tier}__age_s": limit_s * 1.01})
    answer = Controller(prepare(make_bundle())).answer(observation)
    assert (answer.by, answer.reason) == ("fallback", "stale_telemetry")
    assert isinstance(answer.message, Decided)
    assert answer.message.decision == Greedy(make_cost_model()).decide(observation)


def test_an_unreachable_tier_is_not_stale() -> None:
    """A tier known to be gone is a fact, however old its last report: the network decides, and stays on the device."""
    observation = make_observation(edge__age_s=1e3, edge__reachable=False, cloud__age_s=1e3, cloud__reachable=False)
    answer = Controller(prepare(make_bundle())).answer(observation)
    assert answer.reason == "policy"
    assert isinstance(answer.message, Decided)
    cost_model = make_cost_model()
    assert cost_model.uplink_bytes[cost_model.find(answer.message.decision)] == 0


def test_the_age_limit_can_be_set() -> None:
    """The limit given to `prepare` is the one that counts."""
    observation = make_observation(edge__age_s=0.2)
    assert Controller(prepare(make_bundle(), max_age_s=0.1)).answer(observation).reason == "stale_telemetry"
    assert Controller(prepare(make_bundle(), max_age_s=0.3)).answer(observation).reason == "policy"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_greedys(value: float) -> None:
    """Weights that make the output NaN or infinite never decide anything."""
    bundle = make_bundle()
    bundle.arrays["output_weight"][:] = value
    answer = Controller(prepare(bundle)).answer(make_observation())
    assert (answer.by, answer.reason) == ("fallback", "non_finite")


def test_greedy_has_no_answer_either() -> None:
    """With every tier gone and no decision that stays on the device, the question is refused, not dropped."""
    cost_model = make_cost_model()
    leaves = [decision for decision, num_bytes in zip(cost_model.decisions, cost_model.uplink_bytes, strict=True) if num_bytes > 0]
    bundle = make_bundle(cost_model=cost_model.restrict(leaves))
    bundle.arrays["output_weight"][:] = math.nan
    answer = Controller(prepare(bundle)).answer(make_observation(edge__reachable=False, cloud__reachable=False))
    assert isinstance(answer.message, Refused)
    assert (answer.by, answer.reason) == ("nobody", "no_decision")


def test_swap_changes_the_next_answer() -> None:
    """After a swap the new bundle decides."""
    controller = Controller(prepare(make_bundle(seed=0)))
    controller.swap(prepare(make_bundle(seed=1, scale=3.0)))
    observations = [make_observation(uplink__rate_bytes_per_s=float(rate)) for rate in np.geomspace(1e4, 1e7, 20)]
    answers = [controller.answer(observation).message for observation in observations]
    policy = BundlePolicy(make_bundle(seed=1, scale=3.0))
    assert answers == [Decided(request_id=1, decision=policy.decide(observation)) for observation in observations]


def test_a_bundle_of_another_catalogue_is_refused() -> None:
    """Another catalogue means another problem; the old bundle goes on."""
    controller = Controller(prepare(make_bundle()))
    before = controller.mind
    fewer = make_cost_model().restrict(make_cost_model().decisions[:20])
    assert decisions_digest(fewer.decisions) != decisions_digest(make_cost_model().decisions)
    with pytest.raises(InvalidBundle, match="catalogue"):
        controller.swap(prepare(make_bundle(cost_model=fewer)))
    assert controller.mind is before


_amount = st.floats(min_value=0.0, allow_nan=False, allow_infinity=False)
_count = st.integers(min_value=-(2**63), max_value=2**64 - 1)
_node = st.builds(NodeView, backlog_s=_amount, num_waiting=_count, num_own=_count, age_s=_amount, reachable=st.booleans())
_link = st.builds(LinkView, rate_bytes_per_s=_amount, delay_s=_amount, outstanding_bytes=_amount, age_s=_amount)
_real = st.floats(allow_nan=False, allow_infinity=False)
_job = st.builds(
    JobView,
    num_rounds=st.integers(min_value=0, max_value=2**63),
    tau=st.integers(min_value=1, max_value=2**63),
    num_steps=st.just(0),
    since_s=_amount,
    last_round_s=_amount,
    loss=_real,
    loss_drop=_real,
    outstanding_bytes=_amount,
    tau_due=st.booleans(),
)
_observation = st.builds(
    Observation,
    request_id=_count,
    model=st.sampled_from(["digits-cnn", "other", ""]),
    at_s=_amount,
    deadline_s=_amount,
    num_in_flight=_count,
    arrival_rate_per_s=_amount,
    nodes=st.tuples(_node, _node, _node),
    links=st.tuples(_link, _link),
    job=st.none() | _job,
)


@lru_cache
def believing_controllers() -> tuple[Controller, ...]:
    """That take no telemetry for stale, without taus and with."""
    told = msgspec.structs.replace(make_cost_model(), job=TRAITS)
    return tuple(Controller(prepare(make_bundle(cost_model=each), max_age_s=math.inf)) for each in (make_cost_model(), told))


@settings(max_examples=200)
@given(observation=_observation)
def test_every_observation_gets_an_answer(observation: Observation) -> None:
    """Whatever can come over the wire, the answer is one of the catalogue's decisions or a refusal, under its id."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(observation), type=Observation) == observation
    for controller in believing_controllers():
        answer = controller.answer(observation)
        assert answer.message.request_id == observation.request_id
        if isinstance(answer.message, Decided):
            assert msgspec.structs.replace(answer.message.decision, tau=None) in make_cost_model().decisions
