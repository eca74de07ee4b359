"""`drlctl levels`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drlctl.commands.options import JsonOption, ScenarioArgument


def command(
    scenario: ScenarioArgument = "levels",
    data: Annotated[
        str, typer.Option(help="Train and serve on this: digits, or a folder of IDX or CIFAR files or pictures [default: the scenario's].")
    ] = "",
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests at every level [default: as many as an episode of the scenario's evaluation].")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Global training rounds [default: the scenario's].")] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="Devices with data of their own [default: the scenario's].")] = None,
    out: Annotated[Path, typer.Option(help="Folder in which the run's folder is made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run's folder [default: scenario and time].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold the scale of edge intelligence, cloud and levels 1 to 6, against one workload: trained and served live, in one table.

    The scenario's network is trained in the cloud, by cloud and edge, by the edge without the cloud, and by each device alone; then
    what came of it answers the same pictures where each level infers.  For each claim about higher levels (less offloaded, shorter
    paths, less transfer latency and WAN cost, more privacy, more compute latency and energy) the output says whether the figures
    bear it out, and where not.  records.jsonl, rounds.jsonl, summary.json and, where plots can be drawn, levels.html go into a new
    folder under --out.
    """
    from drlctl.commands.fit import with_fit
    from drlctl.extras import installed, require
    from drlctl.output import ProgressLine, note, print_json, print_text
    from envs.scenario import load_scenario
    from experiments.level_table import claim_lines, level_grid, level_legend
    from experiments.table import plain_table

    chosen = load_scenario(scenario)
    given = {"source": data or None, "num_clients": clients}
    changes = {"rounds": rounds, "data": {key: value for key, value in given.items() if value is not None} or None}
    chosen = with_fit(chosen, {key: value for key, value in changes.items() if value is not None}, edges=1)
    require("train")
    from drlctl.levels import open_folder, play_levels
    from runtime.training.export import with_fitting_network

    with ProgressLine() as progress:
        run = play_levels(
            chosen.of_fit(with_fitting_network(chosen.fit)),
            num_requests=requests or chosen.evaluation.num_requests,
            root=out,
            run_name=name,
            progress=progress,
        )
    if as_json:
        print_json(run)
    else:
        for line in (run.info, *run.emulated, "", plain_table(level_grid(run.levels)), "", *level_legend(), ""):
            print_text(line)
        for line in (*claim_lines(run.findings), "", *run.notes):
            print_text(line)
    if installed("report"):
        from experiments.level_page import write_level_page

        note(f"page: {write_level_page(open_folder(run), run.levels, run.findings, run.info, run.emulated, run.notes)}")
    note(f"run: {run.folder}")
