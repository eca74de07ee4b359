"""`drlctl evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drlctl.commands.options import JsonOption, ProfileOption, ScenarioArgument


def command(
    scenario: ScenarioArgument = "congested",
    profile: ProfileOption = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to hold against the heuristics, served by a daemon.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="Who is to play: a heuristic, beside a training job also 'greedy, tau 5' or 'greedy, adaptive tau'; may be repeated"
            " [default: all heuristics; beside a job greedy with every tau].",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas [default: the scenario's].")] = "",
    requests: Annotated[int | None, typer.Option(min=1, help="Requests per seed and policy [default: the scenario's].")] = None,
    out: Annotated[Path, typer.Option(help="Folder in which the run's folder is made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run's folder [default: scenario and time].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Play every policy live on SCENARIO, with the same requests, and print the comparison.

    Records, summary and report go into a new folder under --out.  Exit code 1 when an episode was lost.
    """
    import sys

    from envs.scenario import load_scenario

    chosen = load_scenario(scenario)
    from drlctl.evaluation import evaluate_live
    from drlctl.output import ProgressLine, note, print_json
    from envs.not_modelled import simulator_notice
    from experiments.table import print_summary

    for line in simulator_notice(chosen):
        note(line)
    with ProgressLine() as progress:
        folder, summary = evaluate_live(
            chosen,
            profile,
            bundle=bundle,
            names=tuple(policy or ()),
            seeds=parse_seeds(seeds),
            num_requests=requests,
            root=out,
            name=name,
            progress=progress,
        )
    if as_json:
        print_json(summary)
    else:
        print_summary(summary, sys.stdout)
    note(f"run: {folder.path}")
    raise typer.Exit(1 if summary.failures else 0)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read `1001,1002`.  Raises a usage error for anything else."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(f"seeds are whole numbers separated by commas, got {text!r}", param_hint="--seeds") from None
