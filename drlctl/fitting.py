"""`drlctl fit` as functions: nodes are started, a training job is played on them, what it did is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from drlctl.extras import require
from drlctl.output import Progress, note
from drlctl.state import find_running, read_state, state_path
from envs.scenario import Scenario
from experiments.fit_summary import FitSummary, summarise_fit
from experiments.runs import JOBS_NAME, RunFolder, create_run, held, open_run
from runtime.errors import InvalidConfig, InvalidInput, PeerLost, SystemFailure
from runtime.files import write_atomically
from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import DataSpec, FitJob, RoundRecord
from runtime.models.build import ensure_models
from runtime.training.aggregation import find_aggregator
from runtime.training.compress import find_compressor
from runtime.training.data.job import SENSORS, load_job_data
from runtime.training.session import FitSession, assign_roles

NAME_CHARS = 100
"""Of a job's name, where the process's number is put behind it: room for that is left in a message."""


class FitRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a job came to, and where it is kept."""

    folder: str
    """Empty where nothing is kept."""
    emulated: tuple[str, ...]
    """What of the figures is emulated, for people."""
    jobs: tuple[FitSummary, ...]


def fit(scenario: Scenario, jobs: Sequence[FitJob], *, root: Path, run_name: str | None = None, progress: Progress) -> FitRun:
    """Play jobs one after another on nodes of their own, started for them: the scenario's links and tiers, a device per client.

    Raises InvalidConfig for jobs of different numbers of clients, what `check_jobs` raises, SystemFailure when a node does not
    start, RoundFailed when a job fails.
    """
    if len({job.data.num_clients for job in jobs}) != 1:
        raise InvalidConfig("jobs that are played on the same nodes have the same number of clients")
    check_jobs(jobs)
    folder = create_run(root, scenario, command=["drlctl", *sys.argv[1:]], seeds=[jobs[0].seed], name=run_name)
    return _play(scenario, jobs, folder, progress)


def resume(path: Path, progress: Progress) -> FitRun:
    """Go on with a run that was interrupted, from each job's last round.  Raises InvalidInput when it is no run of `fit`."""
    folder = open_run(path)
    scenario = folder.load_scenario()
    saved = folder.path / JOBS_NAME
    try:
        jobs = msgspec.json.decode(saved.read_bytes(), type=tuple[FitJob, ...])
    except OSError as exc:
        raise InvalidInput(f"{path} is no run of `drlctl fit`: cannot read {JOBS_NAME} ({exc.strerror})") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"{saved} is corrupt: {exc}") from exc
    return _play(scenario, jobs, folder, progress)


def check_jobs(jobs: Sequence[FitJob]) -> None:
    """Refuse at once what nodes on this host would refuse after half a minute, when all of them have loaded torch and the data.

    Raises InvalidConfig for an aggregator, compressor or base that there is not and for more clients than parts, InvalidDataset for
    data that cannot be read, MissingExtra where a package is missing.
    """
    require("train", *(["secure"] if any(job.secure_aggregation for job in jobs) else []))
    for job in jobs:
        _check_names(job)
        base = job.transfer.checkpoint if job.transfer is not None else ""
        if base and not Path(base).exists():
            raise InvalidConfig(f"no base at {base!r}: give an earlier run's folder, a safetensors file, or `own`")
    for data in {msgspec.json.encode(job.data): job.data for job in jobs}.values():
        _check_data(data)


def _check_names(job: FitJob) -> None:
    find_aggregator(job.aggregator)
    find_compressor(job.compressor, job.rounds)


def _check_data(spec: DataSpec) -> None:
    num_parts = len(load_job_data(spec).partition.indices)
    if num_parts < spec.num_clients:
        raise InvalidConfig(f"{spec.source} has {num_parts} people to be clients, the job {spec.num_clients} clients: ask for fewer")
    if num_parts > spec.num_clients:
        note(f"{spec.num_clients} of the {num_parts} people in {spec.source.removeprefix(SENSORS)} are clients; the test set has them all")


def fit_running(job: FitJob, state: Path | None, progress: Progress) -> FitRun:
    """Play a job on the system that `drlctl up` runs: its device is the one client.

    Raises InvalidConfig for a job that takes more, PeerLost when none runs or it ends meanwhile, RoundFailed when the job fails.
    """
    _check_names(job)
    path = state_path(state)
    known = find_running(path)
    above = {"device": "edge", "edge": "cloud", "cloud": ""}
    one = _with_one_client(job)
    with FitSession(one, assign_roles(one, above, known.addresses), lambda _: read_state(path) != known) as session:
        progress(f"{job.name}: nodes load torch and data", 0.0)
        try:
            session.start()
            report = session.run(lambda record, _: progress(_line(job, record), record.round / job.rounds))
        finally:
            session.stop()  # whatever became of it: the nodes have others' jobs to do
    return FitRun(folder="", emulated=(), jobs=(summarise_fit(one, report.records, job.name),))


def _with_one_client(job: FitJob) -> FitJob:
    """Under a name that no other process gives: nodes take a job for another's by it."""
    data = msgspec.structs.replace(job.data, num_clients=1)
    try:
        return msgspec.structs.replace(job, data=data, name=f"{job.name[:NAME_CHARS]}-{os.getpid()}")
    except ValueError as exc:
        raise InvalidConfig(f"on the running system one device is the only client: {exc}") from exc


def _play(scenario: Scenario, jobs: Sequence[FitJob], folder: RunFolder, progress: Progress) -> FitRun:
    kept = [job if job.folder else msgspec.structs.replace(job, folder=str((folder.nodes / job.name).resolve())) for job in jobs]
    with held(folder):
        write_atomically(folder.path / JOBS_NAME, msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
        try:
            return _play_kept(scenario, kept, folder, progress)
        except (InvalidInput, InvalidConfig):
            raise  # the same would be refused again
        except BaseException:
            _tell_what_is_kept(folder)
            raise


def _tell_what_is_kept(folder: RunFolder) -> None:
    if any(folder.nodes.glob("*/*/*")):
        note(f"what nodes have saved is kept: `drlctl fit --resume {folder.path}` goes on from there")


def _play_kept(scenario: Scenario, kept: Sequence[FitJob], folder: RunFolder, progress: Progress) -> FitRun:
    progress("starting nodes", 0.0)
    summaries, lines = [], []
    num_devices, model_dirs = kept[0].data.num_clients, ensure_models(scenario.models)
    with launch_nodes(scenario.topology, *model_dirs, num_devices=num_devices, preload=False) as nodes:
        for job, records in play_jobs(nodes, kept, progress):
            summaries.append(summarise_fit(job, records))
            lines += [msgspec.json.encode({"job": job.name, "record": record}) for record in records]
            write_atomically(folder.rounds, b"\n".join(lines) + b"\n")
            run = FitRun(folder=str(folder.path), emulated=tuple(scenario.topology.emulation_notice()), jobs=tuple(summaries))
            write_atomically(folder.summary, msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    return run


def play_jobs(nodes: RunningNodes, jobs: Sequence[FitJob], progress: Progress) -> Iterator[tuple[FitJob, tuple[RoundRecord, ...]]]:
    """Each job that these nodes can play, with its records; of several, one that they refuse is told and left out.

    Raises what `play_job` raises, InvalidInput only when no job can be played.
    """
    refused: list[InvalidInput] = []
    for index, job in enumerate(jobs):
        try:
            yield job, play_job(nodes, job, part_of(progress, index, len(jobs)))
        except InvalidInput as exc:
            refused.append(exc)
            if len(refused) == len(jobs):
                raise
            note(f"{job.name} is left out: {exc}")


def play_job(nodes: RunningNodes, job: FitJob, progress: Progress) -> tuple[RoundRecord, ...]:
    """One job from its start, or from where it was left, to its end: the records of all rounds.

    Raises InvalidInput when a node refuses it, RoundFailed, PeerLost, and SystemFailure where a node that has ended is why.
    """
    with FitSession(job, assign_roles(job, nodes.upstreams, nodes.addresses), nodes.has_ended) as session:
        progress(f"{job.name}: nodes load torch and data", 0.0)
        try:
            ready = session.start()
            before = max(one.resumed_round for one in ready.values())
            if before:
                note(f"job {job.name!r} goes on after round {before}")
            report = session.run(lambda record, _: progress(_line(job, record), record.round / job.rounds))
        except InvalidInput:
            session.stop()  # those that did not refuse it are free for the next
            raise
        except PeerLost as exc:
            blame_the_dead(nodes, exc)
            raise
        session.stop()
    return report.records


def blame_the_dead(nodes: RunningNodes, lost: PeerLost) -> None:
    """Raise SystemFailure with the last words of a node that has ended, if one has: that says more than a silent address."""
    try:
        nodes.check()
    except SystemFailure as dead:
        raise SystemFailure(f"{dead}; so {lost}") from lost


def part_of(progress: Progress, index: int, count: int) -> Progress:
    """Shows one of several jobs as a part of them all."""
    return lambda text, share: progress(text, (index + share) / count)


def _line(job: FitJob, record: RoundRecord) -> str:
    accuracy = f", accuracy {record.accuracy:.1%}" if record.accuracy is not None else ""
    missing = f", {len(record.missing)} missing" if record.missing else ""
    return f"{job.name}: round {record.round} of {job.rounds}, tau {record.tau}, loss {record.loss:.3f}{accuracy}{missing}"
