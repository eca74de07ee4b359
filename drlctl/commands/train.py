"""`drlctl train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from drlctl.commands.options import JsonOption, ProfileOption, ScenarioArgument, SeedOption


class AlgorithmName(StrEnum):
    """How to learn."""

    ppo = "ppo"
    dqn = "dqn"


def command(
    scenario: ScenarioArgument = "congested",
    profile: ProfileOption = None,
    algo: Annotated[AlgorithmName, typer.Option(help="Learning algorithm.")] = AlgorithmName.ppo,
    n_timesteps: Annotated[
        int | None, typer.Option("--n-timesteps", "-n", min=1, help="Decisions to learn from [default: the scenario's].")
    ] = None,
    n_envs: Annotated[int | None, typer.Option("--n-envs", min=1, help="Simulated devices side by side [default: the scenario's].")] = None,
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option(help="Folder to write: bundle, curve, checkpoint.")] = Path("runs/train"),
    as_json: JsonOption = False,
) -> None:
    """Learn to decide for SCENARIO in the simulator; the best network so far is a bundle for `drlctl serve`."""
    from drlctl.extras import require
    from drlctl.output import ProgressLine, note, print_json, print_text
    from drlctl.systems import read_profile
    from envs.scenario import load_scenario

    chosen = load_scenario(scenario)
    fitting = read_profile(profile, chosen)
    require("train")
    from agents.training import train
    from drlctl.learning import learning
    from envs.not_modelled import not_modelled, simulator_notice

    for line in simulator_notice(chosen):
        note(line)
    with ProgressLine() as progress:
        result = train(
            chosen,
            fitting,
            algo=algo.value,
            seed=seed,
            timesteps=n_timesteps,
            num_envs=n_envs,
            out_dir=out,
            progress=learning(progress, n_timesteps or chosen.training.timesteps),
        )
    note(f"bundle: {result.bundle_path}")
    scores = result.bundle.manifest.scores
    if as_json:
        print_json(
            {
                "bundle": str(result.bundle_path),
                "digest": result.bundle.manifest.digest,
                "scores": scores,
                "seconds": result.seconds,
                "not_modelled": not_modelled(chosen),
            }
        )
    else:
        best = f"{result.gain_fraction:+.1%} against greedy"
        print_text(f"mean cost per request in the simulator: learned {scores['learned']:.4f}, greedy {scores['greedy']:.4f} ({best})")
