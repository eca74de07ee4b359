"""`drlctl techniques`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drlctl.commands.options import JsonOption, ScenarioArgument


def command(
    scenario: ScenarioArgument = "calm",
    data: Annotated[
        str, typer.Option(help="Play a model trained on this: a folder of IDX files, CIFAR batches or pictures [default: the scenario's].")
    ] = "",
    model: Annotated[
        str, typer.Option(help="Play this model; with --data the architecture to train [default: the scenario's; resnet-small].")
    ] = "",
    variants: Annotated[
        str, typer.Option(help="With --data: what to build, joined by commas [default: every form that the architecture has].")
    ] = "",
    epochs: Annotated[
        int, typer.Option(min=0, show_default=False, help="With --data: passes over the training pictures [default: the architecture's].")
    ] = 0,
    technique: Annotated[list[str] | None, typer.Option("--technique", help="Show only this one; may be repeated [default: all].")] = None,
    seeds: Annotated[str, typer.Option(help="A block of requests for each seed, separated by commas [default: 6 blocks].")] = "",
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests per block and setting [default: in all as many as the scenario's evaluation].")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder in which the run's folder is made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run's folder [default: scenario and time].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each technique does: the same live requests with it off and on.

    Partition, early exits, exits by confidence, compressed variants, codecs, caches, the input filter, batches, tenants and
    hand-over: latency, accuracy, energy (modelled), bytes, memory and privacy side by side, and how far the simulator is from it.
    Both settings of a technique take turns.  With --data a model is trained on it first, or found if it was trained before; to
    train one otherwise, use `drlctl models build` and name it with --model.
    Records, techniques.json and, where plots can be drawn, techniques.html go into a new folder under --out.  Exit code 1 when an
    episode was lost.
    """
    from envs.scenario import load_scenario

    chosen = load_scenario(scenario)
    from drlctl.building import choose_model
    from drlctl.commands.evaluate import parse_seeds
    from drlctl.commands.options import split_names
    from drlctl.extras import installed
    from drlctl.output import ProgressLine, note, print_json, print_text
    from drlctl.techniques import show_techniques
    from experiments.table import plain_table
    from experiments.technique_effects import lost_notice
    from experiments.technique_table import effect_grid, legend
    from runtime.models.wishes import Wishes

    with ProgressLine() as progress:
        wishes = Wishes(variants=split_names(variants), epochs=epochs)
        folder, effects = show_techniques(
            chosen.of_model(choose_model(data, model, wishes, progress) or chosen.model),
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
        print_text()
        for line in (*legend(effects), *lost_notice(effects)):
            print_text(line)
    if installed("report"):
        from experiments.technique_page import write_technique_page

        note(f"page: {write_technique_page(folder, folder.load_scenario(), effects)}")
    note(f"run: {folder.path}")
    raise typer.Exit(1 if any(effect.lost for effect in effects) else 0)
