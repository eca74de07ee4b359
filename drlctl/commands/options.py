"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ScenarioArgument = Annotated[str, typer.Argument(help="A shipped scenario's name, or the path of a .toml file.", show_default=True)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout and nothing else there.")]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state", help="File in which `drlctl up` publishes its addresses [default: in $DRLCTL_RUNTIME or $XDG_RUNTIME_DIR/drlctl]."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same requests, links and pictures.")]
ProfileOption = Annotated[
    Path | None,
    typer.Option("--profile", help="Profile of this scenario [default: profiles/SCENARIO.json, as `drlctl profile` writes it]."),
]


def split_names(text: str) -> tuple[str, ...]:
    """Read `fp32,int8`; nothing for an empty text."""
    return tuple(part.strip() for part in text.split(",")) if text else ()
