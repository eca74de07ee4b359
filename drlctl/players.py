"""Who plays: heuristics and the learned policy by name, and beside a training job each with a rule for its tau.

greedy                decides the requests; the job keeps the tau that it begins with
greedy, tau 5         the same beside a job that aggregates every 5 local steps
greedy, adaptive tau  beside one whose tau is adaptive (Wang et al., JSAC 2019)
learned               decides requests and tau
learned, tau 5        decides requests; what its taus are worth is the difference to `learned`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from agents.bundle import Bundle
from agents.heuristics import HEURISTICS
from agents.policy import Policy
from envs.job_config import adaptive_tau, decided_tau, fixed_tau
from envs.scenario import Scenario
from experiments.rollout import RemotePolicy, WithTau
from runtime.errors import InvalidInput
from runtime.messages import TauSpec

LEARNED = "learned"
"""What reports call the bundle's policy."""
ADAPTIVE = "adaptive tau"
Decider = TypeVar("Decider", Policy, RemotePolicy, Policy | RemotePolicy)


def default_names(scenario: Scenario) -> tuple[str, ...]:
    """What is played unless somebody names it: all heuristics; beside a training job greedy with every fixed tau and with adaptive tau."""
    rules = tau_rules(scenario)
    return tuple(f"greedy, {rule}" for rule in rules) if rules else tuple(HEURISTICS)


def tau_rules(scenario: Scenario) -> dict[str, TauSpec]:
    """Name -> rule of the scenario's job; none where no job trains."""
    if scenario.job is None:
        return {}
    return {f"tau {tau}": fixed_tau(scenario.fit, tau) for tau in scenario.job.taus} | {ADAPTIVE: adaptive_tau(scenario.fit)}


def requests_deciders(names: Sequence[str], scenario: Scenario, known: Sequence[str]) -> set[str]:
    """Who decides requests for any of `names`.  Raises InvalidInput for a name that is neither known nor of someone known with a rule."""
    rules = tau_rules(scenario)
    for name in names:
        who, _, rule = name.partition(", ")
        if who not in known or (rule and rule not in rules):
            rule_text = f"; each also with ', ' and one of: {', '.join(rules)}" if rules else ""
            raise InvalidInput(f"nobody is called {name!r}; there is {', '.join(known)}{rule_text}")
    return {name.partition(", ")[0] for name in names}


def learned_rule(bundle: Bundle, scenario: Scenario) -> TauSpec | None:
    """The rule of the scenario's job beside this bundle: it begins with the tau with which the bundle's was; None where it decides none.

    Raises InvalidBundle when it decides among other taus than the scenario's.
    """
    trained_beside = bundle.manifest.cost_model.job
    if trained_beside is None or scenario.job is None:
        return None
    bundle.check_taus(scenario.job)
    return decided_tau(scenario.fit, trained_beside.tau)


def with_rules(
    names: Sequence[str], deciders: Mapping[str, Decider], scenario: Scenario, learned: TauSpec | None = None
) -> dict[str, Decider | WithTau]:
    """The players of these names, which `requests_deciders` checked.  `learned`: the rule of `learned_rule`."""
    rules = tau_rules(scenario)
    if learned is not None:
        rules[LEARNED] = learned
    players = dict[str, Decider | WithTau]()
    for name in names:
        who, _, rule = name.partition(", ")
        tau = rules.get(rule or who)
        players[name] = WithTau(name=name, player=deciders[who], tau=tau) if tau is not None else deciders[who]
    return players
