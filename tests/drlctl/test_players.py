"""Who can be asked to play, by name."""

from __future__ import annotations

import msgspec
import pytest

from agents.heuristics import HEURISTICS
from drlctl.job_profiling import mean_transfer_s
from drlctl.players import default_names, learned_rule, requests_deciders, tau_rules, with_rules
from envs.job_config import decided_tau
from envs.job_traits import JobTraits
from envs.scenario import load_scenario
from experiments.rollout import RemotePolicy, WithTau
from runtime.errors import InvalidBundle, InvalidInput
from runtime.rates import ConstantRate
from tests.drlctl.bundles import make_bundle, make_cost_model

BESIDE, ALONE = load_scenario("train-and-serve"), load_scenario("congested")
KNOWN = [*HEURISTICS, "learned"]


def test_beside_a_job_greedy_meets_every_tau() -> None:
    """And adaptive tau; without one all heuristics play, and there are no rules."""
    assert BESIDE.job is not None
    assert default_names(BESIDE) == (*(f"greedy, tau {tau}" for tau in BESIDE.job.taus), "greedy, adaptive tau")
    assert default_names(ALONE) == tuple(HEURISTICS)
    assert tau_rules(ALONE) == {}


def test_names_say_who_decides_requests_and_who_tau() -> None:
    """One decider may play beside several rules."""
    names = ("greedy, tau 5", "learned", "learned, tau 5", "edge-only")
    assert requests_deciders(names, BESIDE, KNOWN) == {"greedy", "learned", "edge-only"}
    remote = RemotePolicy(name="any", endpoint="tcp://x:1")
    players = with_rules(names, dict.fromkeys(("greedy", "learned", "edge-only"), remote), BESIDE)
    assert players["learned"] is remote
    fixed = players["learned, tau 5"]
    assert isinstance(fixed, WithTau)
    assert (fixed.player, fixed.tau.rule, fixed.tau.tau) == (remote, "fixed", 5)


def test_a_job_begins_with_the_tau_that_the_learned_policy_was_trained_with() -> None:
    """It decides from the second round on, and the first is not another's to choose; a rule named for it still holds."""
    remote = RemotePolicy(name="any", endpoint="tcp://x:1")
    deciders = dict.fromkeys(("greedy", "learned"), remote)
    players = with_rules(("greedy", "learned", "learned, tau 5"), deciders, BESIDE, learned=decided_tau(BESIDE.fit, 50))
    learned, fixed = players["learned"], players["learned, tau 5"]
    assert players["greedy"] is remote
    assert isinstance(learned, WithTau)
    assert (learned.player, learned.tau.rule, learned.tau.tau) == (remote, "decided", 50)
    assert isinstance(fixed, WithTau)
    assert (fixed.tau.rule, fixed.tau.tau) == ("fixed", 5)


def test_a_bundle_says_with_which_tau_a_job_begins_beside_it() -> None:
    """With the one beside which it was trained; it leaves its own to a job of whose tau it knows nothing, and other taus are refused."""
    assert BESIDE.job is not None
    traits = JobTraits(taus=BESIDE.job.taus, tau=50, step_s=0.1, up_bytes=1e5, initial_loss=2.3)
    bundle = make_bundle(cost_model=msgspec.structs.replace(make_cost_model(), job=traits))
    assert learned_rule(bundle, BESIDE) == decided_tau(BESIDE.fit, 50)
    assert learned_rule(bundle, ALONE) is learned_rule(make_bundle(), BESIDE) is None
    fewer = msgspec.structs.replace(BESIDE, job=msgspec.structs.replace(BESIDE.job, taus=(1, 20)))
    with pytest.raises(InvalidBundle, match="here it is to decide tau among 1, 20"):
        learned_rule(bundle, fewer)


@pytest.mark.parametrize("name", ["guess", "greedy, tau 3", "guess, tau 5"])
def test_others_are_refused_with_what_there_is(name: str) -> None:
    """Also a tau that the scenario does not offer."""
    with pytest.raises(InvalidInput, match=r"greedy.*adaptive tau"):
        requests_deciders([name], BESIDE, KNOWN)
    with pytest.raises(InvalidInput, match="nobody is called"):
        requests_deciders(["greedy, tau 5"], msgspec.structs.replace(BESIDE, job=None), KNOWN)


def test_a_transfer_takes_its_bytes_over_the_rate() -> None:
    """On a steady link, whenever it begins."""
    assert mean_transfer_s(ConstantRate(bytes_per_s=1e5), "up", 2e4) == pytest.approx(0.2)
