"""The training half of `drlctl levels`: one job for each place that trains, on the same nodes, and what each leaves as models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from drlctl.fit_playing import part_of, play_job
from drlctl.output import Progress
from envs.scenario import Scenario
from experiments.fit_summary import FitSummary, summarise_fit
from experiments.levels import Place
from experiments.runs import RunFolder
from runtime.files import write_atomically
from runtime.launch import launch_nodes
from runtime.messages import FitJob
from runtime.models.build import ensure_models
from runtime.training.export import export_job, share_references
from runtime.training.places import assign_roles
from runtime.training.trained import read_trained


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What a job came to."""

    job: FitJob
    summary: FitSummary
    folders: tuple[Path, ...]
    """Of the nodes that keep its weights: the root's, or each device's where each has its own."""


def train_places(scenario: Scenario, jobs: Mapping[Place, FitJob], folder: RunFolder, progress: Progress) -> dict[Place, Trained]:
    """Play the jobs one after another on the scenario's nodes, a device for each client; rounds.jsonl has their records.

    Raises SystemFailure when a node does not start, RoundFailed when a job fails.
    """
    progress("starting nodes to train", 0.0)
    trained, lines = {}, []
    model_dirs, num_devices = ensure_models(scenario.models), scenario.fit.data.num_clients
    with launch_nodes(scenario.topology, *model_dirs, num_devices=num_devices, preload=False) as nodes:
        for index, (place, plain) in enumerate(jobs.items()):
            job = msgspec.structs.replace(plain, folder=str((folder.nodes / plain.name).resolve()))
            records = play_job(nodes, job, part_of(progress, index, len(jobs)))
            places = assign_roles(job, nodes.upstreams, nodes.addresses)
            keepers = [name for name, node in places.items() if node.role in {"root", "peer"}]
            trained[place] = Trained(
                job=job, summary=summarise_fit(job, records), folders=tuple(Path(job.folder) / name for name in keepers)
            )
            lines += [msgspec.json.encode({"job": job.name, "record": record}) for record in records]
            write_atomically(folder.rounds, b"\n".join(lines) + b"\n")
    return trained


def export_places(trained: Mapping[Place, Trained], folder: Path, progress: Progress) -> dict[Place, tuple[Path, ...]]:
    """A model directory below `folder` for each network that was trained, all with the same reference times.

    Raises what `read_trained` and `export_job` raise.
    """
    directories: dict[Place, list[Path]] = {place: [] for place in trained}
    every = [(place, one.job, kept) for place, one in trained.items() for kept in one.folders]
    for index, (place, job, kept) in enumerate(every):
        name = f"{job.name}-{kept.name}"
        progress(f"exporting {name}", index / len(every))
        export_job(job, read_trained(kept), name, folder / name, _silent)
        directories[place].append(folder / name)
    share_references([directory for group in directories.values() for directory in group])
    return {place: tuple(group) for place, group in directories.items()}


def _silent(phase: str, share: float) -> None:
    """An export takes seconds; the line above tells of it."""
