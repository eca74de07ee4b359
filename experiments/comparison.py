"""A whole run: play live, play the simulator, sum up.  What `drlctl evaluate` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from agents.policy import Policy
from envs.scenario import Scenario
from envs.system import System
from experiments.annotate import Knowledge
from experiments.evaluate import EpisodeFailure, Evaluation, Progress, evaluate
from experiments.records import RecordWriter, SystemKind, read_records
from experiments.rollout import Player
from experiments.runs import JOBS_NAME, RunFolder
from experiments.summarise import summarise
from experiments.summary import Summary, load_failures, save_summary
from runtime.errors import InvalidInput


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """Who plays what, where."""

    scenario: Scenario
    """As `held_out` makes it."""
    players: Mapping[str, Player]
    make_system: Callable[[], System]
    system_kind: SystemKind = "live"
    """What `make_system` makes; "simulated" for a run that has no live system."""
    simulated_players: Mapping[str, Player] = {}
    """The same policies in this process, for the simulator; a remote one by what it serves."""
    make_simulator: Callable[[], System] | None = None
    fallback: Policy | None = None
    """Decides in the simulator where a policy has no decision, as the device's fallback does live."""
    knowledge: Knowledge = Knowledge()


def compare(contest: Contest, folder: RunFolder, progress: Callable[[Progress], None] | None = None) -> Summary:
    """Play the contest with the run's seeds; leave records.jsonl, simulated.jsonl and summary.json in its folder.

    Episodes that broke are in `Summary.failures`.  Raises InvalidInput when none was played to its end, what
    `make_system` raises the first time, and OSError when the folder cannot be written.
    """
    live = _play(contest, folder, progress)
    failures = [*live.failures, *_simulate(contest, folder, progress)]
    return _sum_up(folder, tuple(failures))


def summarise_run(folder: RunFolder) -> Summary:
    """Compute a finished (or interrupted) run's summary again, from its files.  Raises InvalidInput."""
    if (folder.path / JOBS_NAME).exists():
        raise InvalidInput(f"{folder.path} is a run of `drlctl fit`: its figures are in {folder.summary.name} and {folder.rounds.name}")
    failures = load_failures(folder.summary) if folder.summary.exists() else ()
    return _sum_up(folder, failures)


def _play(contest: Contest, folder: RunFolder, progress: Callable[[Progress], None] | None) -> Evaluation:
    with RecordWriter(folder.records) as writer:
        return evaluate(
            contest.scenario,
            contest.make_system,
            contest.players,
            folder.load_info().seeds,
            run=folder.path.name,
            system_kind=contest.system_kind,
            knowledge=contest.knowledge,
            fallback=contest.fallback,
            writer=writer,
            progress=progress,
        )


def _simulate(contest: Contest, folder: RunFolder, progress: Callable[[Progress], None] | None) -> list[EpisodeFailure]:
    """Play the same in the simulator; what broke is named as such."""
    if contest.make_simulator is None or not contest.simulated_players:
        return []
    with RecordWriter(folder.simulated) as writer:
        played = evaluate(
            contest.scenario,
            contest.make_simulator,
            contest.simulated_players,
            folder.load_info().seeds,
            run=folder.path.name,
            system_kind="simulated",
            knowledge=msgspec.structs.replace(contest.knowledge, replayer=None),
            fallback=contest.fallback,
            writer=writer,
            progress=progress,
        )
    return [msgspec.structs.replace(failure, error=f"in the simulator: {failure.error}") for failure in played.failures]


def _sum_up(folder: RunFolder, failures: tuple[EpisodeFailure, ...]) -> Summary:
    info = folder.load_info()
    summary = summarise(
        info,
        folder.load_scenario(),
        read_records(folder.records),
        simulated=read_records(folder.simulated) if folder.simulated.exists() else (),
        failures=failures,
        learned=info.learned,
    )
    save_summary(summary, folder.summary)
    return summary
