"""`drlctl report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drlctl.commands.options import JsonOption


def command(
    run: Annotated[Path, typer.Argument(help="A run's folder, as `drlctl evaluate` and `drlctl demo` make it.")],
    as_json: JsonOption = False,
    html: Annotated[bool, typer.Option("--html/--no-html", help="Write report.html and plots (extra `report`).")] = True,
) -> None:
    """Compute a run's figures again from its records, print them, and write report.html into its folder."""
    import sys

    from drlctl.output import note, print_json
    from experiments.comparison import summarise_run
    from experiments.runs import open_run
    from experiments.table import print_summary

    folder = open_run(run)
    summary = summarise_run(folder)
    if as_json:
        print_json(summary)
    else:
        print_summary(summary, sys.stdout)
    if html:
        from experiments.report import write_report

        note(f"report: {write_report(folder)}")
