"""What is wrong with training jobs as far as it can be told before a node is started."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from drlctl.extras import require
from drlctl.output import note
from runtime.errors import InvalidConfig, InvalidDecision, InvalidModel
from runtime.messages import DataSpec, FitJob
from runtime.training.aggregation import find_aggregator
from runtime.training.compress import find_compressor
from runtime.training.data.job import SENSORS, load_job_data


def check_jobs(jobs: Sequence[FitJob]) -> None:
    """Refuse at once what nodes on this host would refuse after half a minute, when all of them have loaded torch and the data.

    Raises InvalidConfig for an aggregator, compressor or base that there is not, for more clients than parts, and for one job
    whose network has other stages (of several, its nodes refuse that one alone); InvalidDataset for data that cannot be read,
    MissingExtra where a package is missing.
    """
    require("train", *(["secure"] if any(job.secure_aggregation for job in jobs) else []))
    for job in jobs:
        check_names(job)
        base = job.transfer.checkpoint if job.transfer is not None else ""
        if base and not Path(base).exists():
            raise InvalidConfig(f"no base at {base!r}: give an earlier run's folder, a safetensors file, or `own`")
    for data in {msgspec.json.encode(job.data): job.data for job in jobs}.values():
        _check_data(data)
    if len(jobs) == 1:
        check_stages(jobs[0])


def check_names(job: FitJob) -> None:
    """Raise InvalidConfig for an aggregator or compressor that there is not."""
    find_aggregator(job.aggregator)
    find_compressor(job.compressor, job.rounds)


def check_stages(job: FitJob) -> None:
    """Raise InvalidConfig for a cut, or frozen layers, that the job's network does not have.

    Only such a job has its network made here: that takes torch, which other jobs leave to their nodes.
    """
    if job.architecture != "split" and job.transfer is None:
        return
    from runtime.training.halves import cut_in_two
    from runtime.training.trainer import make_job_network
    from runtime.training.transferred import Transferred

    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # nodes find factories in the current folder too
    try:
        network = make_job_network(job)
        if job.architecture == "split":
            cut_in_two(network, job.cut)
        if job.transfer is not None:
            Transferred(job, job.transfer, network)
    except (InvalidDecision, InvalidModel) as exc:
        raise InvalidConfig(f"job {job.name!r} cannot be trained with its network: {exc}") from exc


def _check_data(spec: DataSpec) -> None:
    num_parts = len(load_job_data(spec).partition.indices)
    if num_parts < spec.num_clients:
        raise InvalidConfig(f"{spec.source} has {num_parts} people to be clients, the job {spec.num_clients} clients: ask for fewer")
    if num_parts > spec.num_clients:
        note(f"{spec.num_clients} of the {num_parts} people in {spec.source.removeprefix(SENSORS)} are clients; the test set has them all")
