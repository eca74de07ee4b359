"""`drlctl levels` as a function: every level of the scale is trained and served live, and held against what is claimed of levels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from drlctl.fit_checks import check_jobs
from drlctl.level_serving import VARIANT, serve_levels
from drlctl.level_training import Trained, export_places, train_places
from drlctl.output import Progress
from envs.scenario import Scenario
from experiments.level_claims import Finding, find_all
from experiments.level_measures import LevelSummary, Served, inference_measures, training_measures
from experiments.levels import LEVELS, Level, at_fixed_pace, training_jobs
from experiments.runs import RunFolder, create_run
from runtime.files import write_atomically
from runtime.host import StealMeter, is_disturbed
from runtime.messages import FitJob
from runtime.models.build import ensure_model
from runtime.models.manifest import Manifest, load_manifest
from runtime.training.export import check_servable

TRAINING_SHARE, EXPORT_SHARE = 0.65, 0.15
"""Of the whole, for the progress line."""


class LevelsRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison of levels came to, and where it is kept."""

    folder: str
    info: str
    """What was played, for people."""
    emulated: tuple[str, ...]
    levels: tuple[LevelSummary, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    """What else somebody should know who reads the figures."""


def play_levels(scenario: Scenario, *, num_requests: int, root: Path, run_name: str | None = None, progress: Progress) -> LevelsRun:
    """Train in every place that a level trains in, serve what came of it at every level, and leave summary.json in a run folder.

    The served network is the trained one, weight by weight.  Raises InvalidConfig for a job that nodes cannot serve, and what
    `check_jobs`, `train_places`, `export_places` and `serve_levels` raise.
    """
    check_servable(scenario.fit)
    check_jobs((scenario.fit,))
    reference_s = load_manifest(ensure_model(scenario.model, progress=progress)).full_reference_s
    played = msgspec.structs.replace(scenario, topology=at_fixed_pace(scenario.topology, reference_s))
    folder = create_run(root, played, command=["drlctl", *sys.argv[1:]], seeds=[scenario.fit.seed], name=run_name)
    meter, exported = StealMeter(), TRAINING_SHARE + EXPORT_SHARE
    trained = train_places(played, training_jobs(played.fit), folder, _between(progress, 0.0, TRAINING_SHARE))
    networks = export_places(trained, folder.path / "models", _between(progress, TRAINING_SHARE, exported))
    served = serve_levels(played.topology, networks, num_requests, played.fit.seed, folder.records, _between(progress, exported, 1.0))
    summaries = tuple(_summarise(level, trained[level.training], networks[level.training], served[level.key]) for level in LEVELS)
    run = LevelsRun(
        folder=str(folder.path),
        info=_info(played.fit, num_requests),
        emulated=tuple(played.topology.emulation_notice()),
        levels=summaries,
        findings=find_all(summaries),
        notes=_notes(summaries, load_manifest(networks["cloud"][0]), meter.fraction()),
    )
    write_atomically(folder.summary, msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    return run


def open_folder(run: LevelsRun) -> RunFolder:
    """Paths of a run."""
    return RunFolder(Path(run.folder))


def _summarise(level: Level, trained: Trained, networks: Sequence[Path], served: Sequence[Served]) -> LevelSummary:
    latencies_s = [one.outcome.latency_s for one in served if one.outcome.status == "ok"]
    manifests = [load_manifest(directory) for directory in networks]
    accuracies = [manifest.variants[VARIANT].accuracy["test"][-1] for manifest in manifests]
    decision = served[0].outcome.decision
    return LevelSummary(
        key=level.key,
        name=level.name,
        trained=_how(trained.job),
        placement=_where(decision.cuts, manifests[0].num_stages) if decision is not None else "",
        training=training_measures(trained.summary),
        inference=inference_measures(served),
        latency_s=float(np.median(latencies_s)),
        requests=len(served),
        failed=len(served) - len(latencies_s),
        served_accuracy=float(np.mean(accuracies)),
        accuracy_range=(min(accuracies), max(accuracies)),
    )


def _how(job: FitJob) -> str:
    return job.architecture if job.architecture == "local" else f"{job.architecture}, root {job.root}"


def _where(cuts: tuple[int, int], end: int) -> str:
    """`edge [0,2) cloud [2,3)`: stages by tier."""
    bounds = (0, *cuts, end)
    return " ".join(
        f"{tier} [{start},{stop})"
        for tier, start, stop in zip(("device", "edge", "cloud"), bounds, bounds[1:], strict=False)
        if start < stop
    )


def _info(job: FitJob, num_requests: int) -> str:
    return (
        f"{job.network.factory.rpartition(':')[2]} on {job.data.source}: {job.data.num_clients} devices, {job.data.partition} data, "
        f"{job.rounds * job.tau.tau} local steps each; then {num_requests} requests at every level, one at a time."
    )


def _notes(summaries: Sequence[LevelSummary], manifest: Manifest, steal: float | None) -> tuple[str, ...]:
    """Computed from the figures: which network serves, and what explains the amounts."""
    apart = max(abs(one.served_accuracy - (one.training.accuracy or 0.0)) for one in summaries)
    cuts = [manifest.variants[VARIANT].cut_bytes(cut) for cut in range(manifest.num_stages)]
    low, high = summaries[-1].accuracy_range
    notes = [
        f"Each level serves the network that its training made: served and trained accuracy are {100 * apart:.2f} points apart at most.",
        f"Level 6: each device has a network of its own, between {low:.1%} and {high:.1%} right on the common test set.",
    ]
    if len(cuts) > 1 and min(cuts[1:]) > cuts[0]:
        notes.append(
            f"Every cut of this network carries more than its input: {', '.join(f'{size / 1e3:.1f}' for size in cuts[1:])} kB "
            f"against {cuts[0] / 1e3:.1f} kB."
        )
    failed = {one.key: one.failed for one in summaries if one.failed}
    if failed:
        notes.append("Requests that failed: " + ", ".join(f"{count} at {key}" for key, count in failed.items()) + ".")
    if steal is not None and is_disturbed(steal):
        notes.append(f"The host gave {steal:.0%} of this machine's processor time to others meanwhile: times are longer than they need be.")
    return tuple(notes)


def _between(progress: Progress, low: float, high: float) -> Progress:
    """Shows a part of the whole as what it is."""
    return lambda text, share: progress(text, low + share * (high - low))
