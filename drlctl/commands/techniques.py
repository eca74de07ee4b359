"""`drlctl techniques`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drlctl.commands.options import JsonOption, ScenarioArgument


def command(
    scenario: ScenarioArgument = "calm",
    technique: Annotated[list[str] | None, typer.Option("--technique", help="Show only this one; may be repeated [default: all].")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas [default: the scenario's].")] = "",
    requests: Annotated[int | None, typer.Option(min=1, help="Requests per seed and setting [default: the scenario's].")] = None,
    out: Annotated[Path, typer.Option(help="Folder in which the run's folder is made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run's folder [default: scenario and time].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each technique does: the same live requests with it off and on.

    Partition, early exits, exits by confidence, compressed variants, codecs, caches and the input filter: latency, accuracy, energy
    (modelled), bytes, memory and privacy side by side, and how far the simulator is from it where it knows the technique.
    Records and techniques.json go into a new folder under --out.
    """
    from envs.scenario import load_scenario

    chosen = load_scenario(scenario)
    from drlctl.commands.evaluate import parse_seeds
    from drlctl.output import ProgressLine, note, print_json, print_text
    from drlctl.techniques import show_techniques
    from experiments.table import plain_table
    from experiments.technique_table import effect_grid

    with ProgressLine() as progress:
        folder, effects = show_techniques(
            chosen,
            names=tuple(technique or ()),
            seeds=parse_seeds(seeds),
            num_requests=requests,
            root=out,
            run_name=name,
            progress=progress,
        )
    if as_json:
        print_json(effects)
    else:
        for line in chosen.topology.emulation_notice():
            print_text(line)
        print_text(plain_table(effect_grid(effects)))
    note(f"run: {folder.path}")
