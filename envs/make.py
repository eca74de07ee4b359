"""Entry points of the registered environments: from names to environments."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from envs.catalogue import catalogued
from envs.live import launch_live
from envs.offload import OffloadEnv
from envs.scenario import Scenario, load_scenario
from envs.simulators import simulated_system
from envs.vector import OffloadVectorEnv
from runtime.errors import InvalidProfile
from runtime.profile import Profile, load_profile

AnyScenario = Scenario | str | Path
AnyProfile = Profile | str | Path | None


def make_sim(scenario: AnyScenario = "congested", profile: AnyProfile = None, *, split: str = "validation") -> OffloadEnv:
    """`drlctl/OffloadSim-v0`: the simulator of a scenario (a shipped name, a TOML file, or the struct).

    `profile`: a profile, its file, or None for the shipped one of the scenario's model.
    Raises InvalidConfig and InvalidProfile when they cannot be used.
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
    """Load what is given by name or file.  Raises InvalidConfig and InvalidProfile."""
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
    return scenario, profile


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
