"""`drlctl fit` as functions: nodes are started, training jobs are played on them, what they did is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from drlctl.fit_checks import check_jobs, check_names, check_stages
from drlctl.fit_playing import play_rest, round_line
from drlctl.output import Progress, note
from drlctl.state import find_running, read_state, state_path
from envs.scenario import Scenario
from experiments.fit_run import FitLedger, FitRun
from experiments.fit_summary import summarise_fit
from experiments.runs import JOBS_NAME, RunFolder, create_run, held, open_run
from runtime.errors import InvalidConfig, InvalidInput
from runtime.files import write_atomically
from runtime.launch import launch_nodes
from runtime.messages import FitJob
from runtime.models.build import ensure_models
from runtime.training.places import assign_roles
from runtime.training.session import FitSession

NAME_CHARS = 100
"""Of a job's name, where the process's number is put behind it: room for that is left in a message."""

OnUnfinished = Callable[[FitRun], None]
"""Told what a run came to that does not end by itself, whatever ends it; its nodes are gone by then."""


def fit(
    scenario: Scenario, jobs: Sequence[FitJob], *, root: Path, run_name: str | None, progress: Progress, on_unfinished: OnUnfinished
) -> FitRun:
    """Play jobs one after another on nodes of their own, started for them: the scenario's links and tiers, a device per client.

    Raises InvalidConfig for jobs of different numbers of clients, what `check_jobs` raises, SystemFailure when a node does not
    start, or ends and takes the jobs with it, RoundFailed when the only job fails.
    """
    if len({job.data.num_clients for job in jobs}) != 1:
        raise InvalidConfig("jobs that are played on the same nodes have the same number of clients")
    check_jobs(jobs)
    folder = create_run(root, scenario, command=["drlctl", *sys.argv[1:]], seeds=[jobs[0].seed], name=run_name)
    return _play(scenario, jobs, folder, progress, on_unfinished)


def resume(path: Path, progress: Progress, on_unfinished: OnUnfinished) -> FitRun:
    """Go on with a run that was interrupted: with the job that was under way, from its last round, and those after it.

    Of a finished run it is what it came to, and no node is started.  Raises InvalidInput when it is no run of `fit`.
    """
    folder = open_run(path)
    scenario, jobs = folder.load_scenario(), _read_jobs(folder)
    ledger = FitLedger(folder, jobs, scenario.topology.emulation_notice())
    if not ledger.to_play:
        note(f"run {path} is finished: nothing is left to be played")
        return ledger.run
    return _play(scenario, jobs, folder, progress, on_unfinished)


def how_to_go_on(run: FitRun) -> str:
    """What a run that ended early keeps, and how it is taken up again, for people."""
    if not run.unplayed:
        return f"every job had come to its end: `drlctl fit --resume {run.folder}` shows the table again"
    count, interrupted = len(run.jobs) + len(run.left_out) + len(run.unplayed), run.unplayed[0]
    ended = f"{len(run.jobs)} of {count} jobs came to their end and are kept; " if count > 1 else ""
    if any((RunFolder(Path(run.folder)).nodes / interrupted).glob("*/*")):
        return f"{ended}what nodes have saved of {interrupted} is kept: `drlctl fit --resume {run.folder}` goes on from there"
    return f"{ended}nothing of {interrupted} is saved yet: `drlctl fit --resume {run.folder}` begins with it"


def fit_running(job: FitJob, state: Path | None, progress: Progress) -> FitRun:
    """Play a job on the system that `drlctl up` runs: its device is the one client.

    Raises InvalidConfig for a job that takes more, PeerLost when none runs or it ends meanwhile, RoundFailed when the job fails.
    """
    check_names(job)
    path = state_path(state)
    known = find_running(path)
    above = {"device": "edge", "edge": "cloud", "cloud": ""}
    one = _with_one_client(job)
    check_stages(one)
    with FitSession(one, assign_roles(one, above, known.addresses), lambda _: read_state(path) != known) as session:
        progress(f"{job.name}: nodes load torch and data", 0.0)
        try:
            session.start()
            report = session.run(lambda record, _: progress(round_line(job, record), record.round / job.rounds))
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


def _read_jobs(folder: RunFolder) -> tuple[FitJob, ...]:
    saved = folder.path / JOBS_NAME
    try:
        return msgspec.json.decode(saved.read_bytes(), type=tuple[FitJob, ...])
    except OSError as exc:
        raise InvalidInput(f"{folder.path} is no run of `drlctl fit`: cannot read {JOBS_NAME} ({exc.strerror})") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"{saved} is corrupt: {exc}") from exc


def _play(scenario: Scenario, jobs: Sequence[FitJob], folder: RunFolder, progress: Progress, on_unfinished: OnUnfinished) -> FitRun:
    kept = [job if job.folder else msgspec.structs.replace(job, folder=str((folder.nodes / job.name).resolve())) for job in jobs]
    num_devices = jobs[0].data.num_clients
    with held(folder):
        write_atomically(folder.path / JOBS_NAME, msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
        ledger = FitLedger(folder, kept, scenario.topology.emulation_notice())
        try:
            progress("starting nodes", 0.0)
            model_dirs = ensure_models(scenario.models)
            with launch_nodes(scenario.topology, *model_dirs, num_devices=num_devices, preload=False) as nodes:
                play_rest(nodes, ledger, progress)
        except (InvalidInput, InvalidConfig):
            raise  # the same would be refused again
        except BaseException:
            on_unfinished(ledger.run)
            raise
    return ledger.run
