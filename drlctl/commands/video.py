"""`drlctl video`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from drlctl.commands.options import JsonOption, SeedOption

FRAMES = "video/frames"


def command(
    frames: Annotated[
        Path | None, typer.Argument(help=f"Folder with the pictures of one fixed camera [default: {FRAMES} in $DRLCTL_DATA].")
    ] = None,
    target: Annotated[float, typer.Option(min=0.01, max=1.0, help="Accuracy to hold: F1 against the golden setting.")] = 0.9,
    cost: Annotated[Literal["energy", "bytes", "compute"], typer.Option(help="What is to be least.")] = "energy",
    tier: Annotated[Literal["device", "edge", "cloud"], typer.Option(help="Where the networks run.")] = "edge",
    scenario: Annotated[str, typer.Option(help="Whose tiers and links: a shipped scenario, or a .toml file.")] = "calm",
    window: Annotated[int, typer.Option(min=2, help="Frames after which settings are measured anew.")] = 12,
    calibration: Annotated[int, typer.Option(min=1, help="First frames of a window, on which they are measured.")] = 4,
    keep: Annotated[int, typer.Option(min=1, help="Candidate settings that are kept from window to window.")] = 3,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Set a video application's knobs to hold an accuracy at least cost, live.

    The application reports which cells of a fixed camera's picture are occupied, at every frame. Its knobs are how often it
    looks (every 1, 2 or 3 frames; between them it repeats itself), the resolution (1, 1/2, 1/4) and the region (the whole
    frame, or the box that holds 95 % of what it saw). The golden setting looks at every frame, whole and in full; accuracy is
    agreement with it.

    The first half of the frames teaches small networks what moves (pseudo-labels, nobody labelled anything) and measures all
    18 settings; on the second half play: golden; the cheapest setting that held on the first half, fixed; the policy, which
    measures its candidates anew on the first frames of each window and pays for that; and an oracle. Every look is a request
    to real nodes. The first time, teaching takes a few minutes.
    """
    from drlctl.output import ProgressLine, print_json, print_text
    from drlctl.video import play_video
    from envs.scenario import load_scenario
    from experiments.table import plain_table
    from experiments.video.policy import Reprofiling
    from experiments.video.table import grid_of
    from runtime.errors import InvalidInput

    try:
        policy = Reprofiling(target=target, cost=cost, window=window, calibration=calibration, num_kept=keep)
    except ValueError as exc:
        raise InvalidInput(str(exc)) from exc
    with ProgressLine() as progress:
        report = play_video(frames or _default(), load_scenario(scenario), policy, tier=tier, seed=seed, progress=progress)
    if as_json:
        print_json(report)
    else:
        for line in report.notes():
            print_text(line)
        print_text(plain_table(grid_of(report.rows)))


def _default() -> Path:
    """The folder that the environment names.  Raises InvalidDataset when it names none."""
    from runtime.errors import InvalidDataset

    if not os.environ.get("DRLCTL_DATA"):
        raise InvalidDataset("no frames: give a folder with the pictures of one fixed camera, or set DRLCTL_DATA")
    return Path(os.environ["DRLCTL_DATA"]) / FRAMES
