"""`drlctl evaluate` as a function: a run folder is made, every policy plays live, a summary and a report are left there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from drlctl.contest import live_contest
from drlctl.output import Progress
from drlctl.players import LEARNED, default_names
from drlctl.systems import read_profile
from envs.scenario import Scenario
from experiments.comparison import compare
from experiments.evaluate import Progress as Played
from experiments.evaluate import held_out
from experiments.runs import RunFolder, create_run
from experiments.summary import Summary


def evaluate_live(
    scenario: Scenario,
    profile: Path | None,
    *,
    bundle: Path | None,
    names: Sequence[str] = (),
    seeds: Sequence[int] = (),
    num_requests: int | None = None,
    root: Path,
    name: str | None = None,
    progress: Progress,
) -> tuple[RunFolder, Summary]:
    """Play those of `names` (default: `default_names`) and the bundle; what is not given is the scenario's.

    Raises what `live_contest`, `create_run` and `compare` raise.
    """
    played = held_out(with_evaluation(scenario, seeds, num_requests))
    fitting = read_profile(profile, scenario)
    with live_contest(played, fitting, names or default_names(played), bundle) as contest:
        learned = LEARNED if bundle is not None else None
        folder = create_run(root, played, command=["drlctl", *sys.argv[1:]], seeds=played.evaluation.seeds, learned=learned, name=name)
        return folder, compare(contest, folder, playing(progress))


def with_evaluation(scenario: Scenario, seeds: Sequence[int], num_requests: int | None) -> Scenario:
    """The scenario evaluated on other seeds, or with another number of requests."""
    evaluation = msgspec.structs.replace(
        scenario.evaluation, seeds=tuple(seeds) or scenario.evaluation.seeds, num_requests=num_requests or scenario.evaluation.num_requests
    )
    return msgspec.structs.replace(scenario, evaluation=evaluation)


AGAIN = ", again: the host disturbed it"


def playing(line: Progress) -> Callable[[Played], None]:
    """Shows an evaluation on a progress line: first the live episodes, then the same ones in the simulator."""
    last, system = -1, "live"

    def show(played: Played) -> None:
        nonlocal last, system
        if played.episode < last:
            system = "simulated"
        last = played.episode
        share = (played.episode + played.num_ended / max(played.num_requests, 1)) / played.num_episodes
        line(f"{system}: {played.policy}, seed {played.seed}{AGAIN if played.repeated else ''}", share)

    return show
