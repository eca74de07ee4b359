"""`drlctl demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drlctl.commands.options import JsonOption, SeedOption


def command(
    scenario: Annotated[str, typer.Option(help="A shipped scenario's name, or the path of a .toml file.")] = "congested",
    quick: Annotated[bool, typer.Option("--quick", help="Little training, one short episode per policy: to see it work.")] = False,
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option(help="Folder in which the run's folder is made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run's folder [default: scenario and time].")] = None,
    as_json: JsonOption = False,
) -> None:
    """The whole way: build, measure, train, serve, play live against every heuristic, report.

    Prints the comparison, where the learned policy wins and where it does not.  Exit code 1 when an episode was lost.
    """
    import sys

    from drlctl.extras import require
    from drlctl.output import note, print_json
    from envs.scenario import load_scenario
    from experiments.table import print_summary

    chosen = load_scenario(scenario)
    require("train", "report")
    from drlctl.demo import quickened, run_demo

    result = run_demo(quickened(chosen) if quick else chosen, out, seed=seed, name=name)
    if as_json:
        print_json(result)
    else:
        print_summary(result.summary, sys.stdout)
    note(f"report: {result.report}")
    note(f"serve it yourself: drlctl serve {result.bundle}")
    raise typer.Exit(1 if result.summary.failures else 0)
