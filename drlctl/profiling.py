"""`drlctl profile` as a function: a scenario's nodes are started and measured."""

from __future__ import annotations

import msgspec
import numpy as np

from drlctl.job_profiling import profile_job_live
from drlctl.output import Progress
from drlctl.systems import NODE_ENTRY
from envs.calibration import Residuals, calibrate, calibration_scenario, max_attempts
from envs.live import LiveSystem
from envs.scenario import Scenario
from runtime.awake import kept_awake
from runtime.inference.filter import FilterConfig
from runtime.launch import RunningNodes, launch_nodes
from runtime.load_profiler import measure_loading
from runtime.look_profiler import measure_lookup_s, measure_payload_lookup_s, measure_thumbnail_s, profile_difficulty
from runtime.models.build import ensure_model, ensure_models
from runtime.models.loading import loaded_bytes
from runtime.models.manifest import load_manifest
from runtime.models.played import load_played, load_played_judgement
from runtime.profile import Profile
from runtime.profiler import measure_profile
from runtime.rapl import metered
from runtime.topology import Topology


def profile_live(scenario: Scenario, progress: Progress) -> tuple[Profile, Residuals]:
    """Start the scenario's nodes, measure its model on them, fit the simulator to them, and end them.

    Raises MissingExtra when the model must be built first and cannot be, UnknownModel for one without data, SystemFailure when
    a node does not start.
    """
    model_dir = ensure_model(scenario.model, progress=progress)
    variants_of_it = load_manifest(model_dir).variants
    for variant in variants_of_it:
        load_played_judgement(model_dir, "validation", variant)  # before minutes are spent on what no profile can be made of
    progress("memory of each variant when loaded", 0.0)
    loaded = {variant: loaded_bytes(model_dir, variant) for variant in variants_of_it}
    with started_nodes(scenario) as nodes:
        profile, residuals = profile_nodes(scenario, nodes, progress)
    variants = {name: msgspec.structs.replace(info, loaded_bytes=loaded[name]) for name, info in profile.variants.items()}
    return msgspec.structs.replace(profile, variants=variants), residuals


def started_nodes(scenario: Scenario) -> RunningNodes:
    """The scenario's nodes on this host, to be used as a context manager.  Raises SystemFailure."""
    topology, model_dirs = scenario.topology.without_reuse(), ensure_models(scenario.models)
    return launch_nodes(topology, *model_dirs, entry=NODE_ENTRY, num_devices=scenario.num_devices)


def profile_nodes(scenario: Scenario, nodes: RunningNodes, progress: Progress) -> tuple[Profile, Residuals]:
    """Measure the scenario's model on running nodes, then fit the overheads to requests that are really played; then its job's rounds.

    This machine's processors are kept awake meanwhile as the scenario's evaluation says.
    Raises PeerLost when a node does not answer, and what `profile_job_live` raises.
    """
    with kept_awake(scenario.evaluation.keep_awake) as awake:
        profile, residuals = _profile_nodes(scenario, nodes, progress)
    return msgspec.structs.replace(profile, kept_awake=awake), residuals


def _profile_nodes(scenario: Scenario, nodes: RunningNodes, progress: Progress) -> tuple[Profile, Residuals]:
    model_dir = ensure_model(scenario.model)
    measured = measure_profile(
        nodes.addresses,
        model_dir,
        scenario=scenario.name,
        scenario_digest=scenario.topology_digest(),
        codecs=scenario.techniques.codecs,
        max_attempts=max_attempts(scenario),
        progress=progress,
    )
    progress("calibrating the simulator on real requests", 0.9)
    manifest, examples = load_manifest(model_dir), load_played(model_dir, "test")
    measured = _with_looks(measured, scenario.topology, manifest.full_reference_s, examples.images)
    slowdown = scenario.topology.device.slowdown_for(manifest.full_reference_s)
    measured = msgspec.structs.replace(measured, difficulty=profile_difficulty(model_dir, slowdown), loading=measure_loading(model_dir))
    light = calibration_scenario(scenario)
    with LiveSystem(light, nodes.device_address, nodes.edge_address, manifest, examples, profile=measured) as live, metered() as meter:
        profile, residuals = calibrate(measured, scenario, live)
        energy = meter.read()
    steal = max((share for share in (measured.host_steal, residuals.host_steal) if share is not None), default=None)
    profile = msgspec.structs.replace(profile, job=profile_job_live(scenario, nodes, profile.uplink, progress))
    return msgspec.structs.replace(profile, host_steal=steal), msgspec.structs.replace(residuals, host_energy=energy)


def _with_looks(profile: Profile, topology: Topology, full_reference_s: float, images: np.ndarray) -> Profile:
    """The profile with how long the device and the edge look at inputs, if they are to."""
    slowdown = topology.device.slowdown_for(full_reference_s)
    edge_lookup_s, edge_lookup_s_per_byte = measure_payload_lookup_s(topology.edge.slowdown_for(full_reference_s))
    return msgspec.structs.replace(
        profile,
        lookup_s=measure_lookup_s(images, slowdown),
        thumbnail_s=measure_thumbnail_s(images, (topology.device.filter or FilterConfig()).side, slowdown),
        edge_lookup_s=edge_lookup_s,
        edge_lookup_s_per_byte=edge_lookup_s_per_byte,
    )
