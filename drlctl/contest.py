"""Who plays what in an evaluation: heuristics in this process, a bundle through a daemon, both live and simulated."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.bundle import Bundle, load_bundle
from agents.heuristics import HEURISTICS
from agents.heuristics.greedy import Greedy
from agents.learned import BundlePolicy
from agents.policy import Policy
from drlctl.fallback import save_cost_model
from drlctl.output import note
from drlctl.players import LEARNED, learned_rule, requests_deciders, with_rules
from drlctl.served import served_bundle
from drlctl.systems import NODE_ENTRY
from envs.catalogue import build_catalogue
from envs.costs import CostModel, build_cost_model
from envs.live import launch_live
from envs.scenario import Scenario
from envs.simulators import simulated_system
from experiments.annotate import Knowledge, latency_forecast
from experiments.comparison import Contest
from experiments.rollout import RemotePolicy
from runtime.models.build import ensure_model
from runtime.models.manifest import load_manifest
from runtime.models.played import load_played
from runtime.profile import Profile

SPLIT = "test"
"""Pictures that neither the model nor the policy has seen."""


@contextlib.contextmanager
def live_contest(scenario: Scenario, profile: Profile, names: Sequence[str], bundle_path: Path | None) -> Iterator[Contest]:
    """A contest on live nodes, replayed in the simulator; its daemon runs while the block does.

    `scenario` is the one to be played (`held_out`), by those of these `names` (drlctl/players.py) and by the bundle.  Heuristics
    choose among all legal decisions or the catalogue's, as each is defined; greedy on the catalogue is the devices' fallback.
    Raises InvalidInput for an unknown name, InvalidBundle for a bundle that cannot decide here; of one that was trained for something
    else it says so.
    """
    names = [*names, *([LEARNED] if bundle_path is not None and LEARNED not in names else [])]
    known = [*HEURISTICS, *([LEARNED] if bundle_path is not None else [])]
    heuristics = requests_deciders(names, scenario, known) - {LEARNED}
    bundle = load_bundle(bundle_path) if bundle_path is not None else None
    every = build_cost_model(profile, scenario)
    if bundle is not None:
        bundle.check_difficulty(every)
        bundle.check_taus(every.job)
        bundle.check_features(every)
        for line in bundle.other_origin(scenario.name, every):
            note(line)
    learned = learned_rule(bundle, scenario) if bundle is not None else None
    catalogue = _catalogue(every, bundle)
    policies = {name: HEURISTICS[name](every, catalogue) for name in sorted(heuristics)}
    with contextlib.ExitStack() as stack:
        cost_model = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drlctl-"))) / "cost-model.json"
        save_cost_model(catalogue, cost_model)
        players: dict[str, Policy | RemotePolicy] = dict(policies)
        if bundle is not None and bundle_path is not None:
            daemon = stack.enter_context(served_bundle(bundle_path))
            players[LEARNED] = RemotePolicy(name=LEARNED, endpoint=str(daemon.ready["address"]))
            policies[LEARNED] = BundlePolicy(bundle)
        yield Contest(
            scenario=scenario,
            players=with_rules(names, players, scenario, learned),
            make_system=lambda: launch_live(scenario, profile=profile, split=SPLIT, entry=NODE_ENTRY, cost_model=str(cost_model)),
            simulated_players=with_rules(names, policies, scenario, learned),
            make_simulator=lambda: simulated_system(scenario, profile, split=SPLIT),
            fallback=Greedy(catalogue),
            knowledge=knowledge_of(scenario, profile, every),
        )


def _catalogue(every: CostModel, bundle: Bundle | None) -> CostModel:
    """The candidates: the bundle's, so that greedy chooses among the same."""
    return every.restrict(bundle.manifest.cost_model.decisions if bundle is not None else build_catalogue(every).decisions)


def knowledge_of(scenario: Scenario, profile: Profile, every: CostModel) -> Knowledge:
    """What records are annotated with: predictions of `every` decision's cost model, and replays in the simulator."""
    directory = ensure_model(scenario.model)
    return Knowledge(
        exit_ends=load_manifest(directory).exit_ends,
        num_examples=len(load_played(directory, SPLIT).labels),
        forecast=latency_forecast(every),
        replayer=simulated_system(scenario, profile, split=SPLIT),
    )
