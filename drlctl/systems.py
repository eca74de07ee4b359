"""A scenario's nodes on this host, with greedy for the device's fallback, published for other commands to find."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from drlctl.fallback import save_cost_model
from drlctl.output import Progress, note
from drlctl.state import RunningState, check_unpublished, own_start_s, remove_state, write_state
from envs.costs import build_cost_model
from envs.live_job import LiveJob, live_job
from envs.scenario import Scenario
from runtime.errors import InvalidProfile
from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import TauSpec, Tier
from runtime.models.build import ensure_models
from runtime.models.difficulty import ensure_difficulty
from runtime.node import NodeConfig
from runtime.profile import Profile, load_profile
from runtime.topology import Topology

NODE_ENTRY = "drlctl.node"
"""The module that runs a node: runtime's, with a fallback policy for the device."""


def without_emulation(topology: Topology) -> Topology:
    """The same tiers and links as they really are: nothing slowed, nothing delayed."""
    real = {tier: msgspec.structs.replace(topology.tier(tier), slowdown=1.0, full_model_s=None) for tier in ("device", "edge", "cloud")}
    links = {link: msgspec.structs.replace(getattr(topology, link), emulated=False) for link in ("uplink", "wan", "neighbour")}
    return msgspec.structs.replace(topology, **real, **links)


def node_config(
    scenario: Scenario,
    tier: Tier,
    *,
    model_dirs: tuple[Path, ...] = (),
    models: tuple[str, ...] = (),
    preload: bool | None = None,
    emulate: bool = False,
    listen: str = "tcp://127.0.0.1:*",
    upstream: str = "",
    neighbours: tuple[str, ...] = (),
    controller: str = "",
    cost_model: Path | None = None,
    name: str = "",
) -> NodeConfig:
    """What one node of the scenario needs to know.

    Its models are in `model_dirs`, and `models` are fetched from upstream; with neither, the scenario's are built, or found
    in the cache.
    """
    folders = model_dirs if model_dirs or models else ensure_models(scenario.models)
    if scenario.topology.tier(tier).difficulty and folders:
        ensure_difficulty(folders[0])
    return NodeConfig(
        name=name or tier,
        tier=tier,
        model_dirs=tuple(map(str, folders)),
        models=models,
        preload=preload,
        listen=listen,
        upstream=upstream,
        neighbours=neighbours,
        controller=controller,
        cost_model=str(cost_model or ""),
        topology=scenario.topology if emulate else without_emulation(scenario.topology),
    )


def default_profile_path(scenario: Scenario) -> Path:
    """Where `drlctl profile` writes and other commands read, unless told otherwise."""
    return Path("profiles") / f"{scenario.name}.json"


@contextlib.contextmanager
def cost_model_file(profile: Profile, scenario: Scenario) -> Iterator[Path]:
    """The cost model of all legal decisions as a file, for a node; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="drlctl-") as folder:
        path = Path(folder) / "cost-model.json"
        save_cost_model(build_cost_model(profile, scenario), path)
        yield path


def check_profile(profile: Profile, scenario: Scenario) -> None:
    """Raise InvalidProfile unless the profile was measured on this scenario's model and topology."""
    if profile.scenario_digest != scenario.topology_digest():
        raise InvalidProfile(
            f"the profile was measured on another topology or model ({profile.scenario!r}, {profile.model!r}) than scenario"
            f" {scenario.name!r} has; measure it again with `drlctl profile {scenario.name}`"
        )


def read_profile(path: Path | None, scenario: Scenario) -> Profile:
    """A profile that fits the scenario, by default the one that `drlctl profile` wrote for it; what is wrong with it is said.

    Raises InvalidProfile.
    """
    profile = load_profile(path or default_profile_path(scenario))
    check_profile(profile, scenario)
    for line in profile.steal_notice():
        note(line)
    return profile


class PublishedSystem(NamedTuple):
    """A scenario's nodes, and what others know of them."""

    nodes: RunningNodes
    state: RunningState
    job: LiveJob | None
    """What trains beside the requests."""


@contextlib.contextmanager
def published_system(
    scenario: Scenario,
    path: Path,
    progress: Progress,
    *,
    cost_model: Path | None = None,
    controller: str = "",
    tau: TauSpec | None = None,
) -> Iterator[PublishedSystem]:
    """Run the scenario's nodes and publish them in the state file `path`; both are gone afterwards.

    With a cost model (file or bundle) the device falls back to greedy, without one to staying on the device.  A scenario's
    job trains on them until they end, its tau by the rule `tau`; None: decided by whoever decides the requests, after its own first.
    Raises InvalidConfig when another system is published there, SystemFailure when a node does not start.
    """
    check_unpublished(path)
    model_dirs = ensure_models(scenario.models, progress)
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(
            launch_nodes(
                scenario.topology,
                *model_dirs,
                entry=NODE_ENTRY,
                controller=controller,
                cost_model=str(cost_model or ""),
                num_devices=scenario.num_devices,
            )
        )
        if (job := live_job(scenario, nodes)) is not None:
            progress("nodes load torch and data for the job beside the requests", 0.0)
            stack.enter_context(job).begin(0, tau)
        state = RunningState(
            scenario=scenario.name,
            model=scenario.model,
            model_dirs=tuple(map(str, model_dirs)),
            pid=os.getpid(),
            started_at_s=own_start_s(),
            addresses=dict(nodes.addresses),
            controller=controller,
        )
        write_state(state, path)
        stack.callback(remove_state, path, os.getpid())
        yield PublishedSystem(nodes, state, job)
