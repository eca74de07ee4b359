"""Entry points of the registered environments: from names to environments."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from envs.catalogue import catalogued
from envs.live import launch_live
from envs.offload import OffloadEnv
from envs.scenario import Scenario, load_scenario, shipped_scenarios
from envs.simulators import simulated_system
from envs.vector import OffloadVectorEnv
from runtime.errors import InvalidProfile
from runtime.messages import TIERS
from runtime.profile import Profile, load_profile
from runtime.topology import Topology

AnyScenario = Scenario | str | Path
AnyProfile = Profile | str | Path | None


def make_sim(scenario: AnyScenario = "congested", profile: AnyProfile = None, *, split: str = "validation") -> OffloadEnv:
    """`drlctl/OffloadSim-v0`: the simulator of a scenario (a shipped name, a TOML file, or the struct).

    `profile`: a profile, its file, or None for the shipped one of the scenario's model.
    Raises InvalidConfig and InvalidProfile when they cannot be used: a profile of other machines among them (`check_machines`).
    """
    scenario, profile = resolve(scenario, profile)
    return OffloadEnv(simulated_system(scenario, profile, split=split), catalogued(scenario, profile, split))


def make_live(scenario: AnyScenario = "congested", profile: AnyProfile = None, *, split: str = "test") -> OffloadEnv:
    """`drlctl/OffloadLive-v0`: starts real nodes as processes, plays real requests, and ends the nodes when it is closed.

    Arguments as of `make_sim`; the profile gives the features their predictions.
    """
    scenario, profile = resolve(scenario, profile)
    cost_model = catalogued(scenario, profile, "validation")
    return OffloadEnv(launch_live(scenario, profile=profile, split=split), cost_model)


def make_sim_vec(num_envs: int = 1, scenario: AnyScenario = "congested", profile: AnyProfile = None, **options: Any) -> OffloadVectorEnv:
    """Vector form of `drlctl/OffloadSim-v0`; `options` as of OffloadVectorEnv."""
    scenario, profile = resolve(scenario, profile)
    return OffloadVectorEnv(scenario, profile, num_envs, **options)


def resolve(scenario: AnyScenario, profile: AnyProfile) -> tuple[Scenario, Profile]:
    """Load what is given by name or file.  Raises InvalidConfig, and InvalidProfile for a profile of another model or other machines."""
    if not isinstance(scenario, Scenario):
        scenario = load_scenario(scenario)
    if profile is None:
        profile = shipped_profile(scenario.model)
    elif not isinstance(profile, Profile):
        profile = load_profile(Path(profile))
    if profile.model != scenario.model:
        raise InvalidProfile(
            f"the profile is of model {profile.model!r}, scenario {scenario.name!r} runs {scenario.model!r}; profile that model"
        )
    check_machines(profile, scenario)
    return scenario, profile


def check_machines(profile: Profile, scenario: Scenario) -> None:
    """Raise InvalidProfile unless the profile was measured on machines and links like the scenario's.

    What it holds depends on each tier's pace, and on a link's numbers where that link is real.  An emulated link's are the
    scenario's own, so a profile serves scenarios whose links are emulated otherwise.  That takes knowing what it was measured
    on: a shipped scenario, else only the very topology.
    """
    if profile.scenario_digest == scenario.topology_digest():
        return
    origin = load_scenario(profile.scenario) if profile.scenario in shipped_scenarios() else None
    if origin is None or origin.topology_digest() != profile.scenario_digest:
        differs = "another topology"
    else:
        differs = "; ".join(_differences(origin.topology, scenario.topology))
    if differs:
        raise InvalidProfile(
            f"the profile was measured on {profile.scenario!r}, and scenario {scenario.name!r} has {differs}: its times are not this"
            f" one's.  Measure it with `drlctl profile {scenario.name}` and give that file"
        )


def _differences(measured: Topology, wanted: Topology) -> list[str]:
    """What makes times measured on one topology wrong on another, in words."""
    paces = [(tier, *((one.tier(tier).slowdown, one.tier(tier).full_model_s) for one in (measured, wanted))) for tier in TIERS]
    found = [f"another {tier} (slowdown, full_model_s: {then} then, {now} here)" for tier, then, now in paces if then != now]
    links = ((name, getattr(measured, name), getattr(wanted, name)) for name in ("uplink", "wan"))
    found += [f"a real {name}" if then.emulated else f"an emulated {name}" for name, then, now in links if then.emulated != now.emulated]
    return found


def shipped_profile(model: str) -> Profile:
    """The profile that comes with drlctl.  Raises InvalidProfile when there is none for this model."""
    folder = resources.files("envs") / "profiles"
    names = sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
    if model not in names:
        raise InvalidProfile(
            f"no profile of model {model!r} comes with drlctl (there is {names}); make one with `drlctl profile` and give its path"
        )
    with resources.as_file(folder / f"{model}.json") as path:
        return load_profile(path)
