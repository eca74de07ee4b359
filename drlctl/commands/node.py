"""`drlctl node`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class TierName(StrEnum):
    """Where a node stands."""

    device = "device"
    edge = "edge"
    cloud = "cloud"


def command(
    tier: Annotated[TierName, typer.Option(help="Which tier this host is.")],
    scenario: Annotated[str, typer.Option(help="Whose model and settings to use: a shipped scenario or a .toml file.")] = "congested",
    listen: Annotated[
        str, typer.Option(help="Where the tier below (or clients) connect: tcp://HOST:PORT; * is a free port.")
    ] = "tcp://127.0.0.1:*",
    upstream: Annotated[str, typer.Option(help="Address of the tier above: the edge for a device, the cloud for an edge.")] = "",
    neighbour: Annotated[
        list[str] | None,
        typer.Option(help="Edge only: address of another edge, which work may be handed to if the scenario says so; may be repeated."),
    ] = None,
    controller: Annotated[str, typer.Option(help="Device only: address of `drlctl serve`.")] = "",
    cost_model: Annotated[
        Path | None,
        typer.Option(help="Device only: a bundle, or a cost model (JSON), to fall back to greedy on [default: stay on the device]."),
    ] = None,
    emulate: Annotated[
        bool,
        typer.Option("--emulate/--no-emulate", help="Whether the scenario's slow tiers and links are imitated; real hosts want them off."),
    ] = False,
    model_dir: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a built model; may be repeated [default: the scenario's models, built or found in the cache]."),
    ] = None,
    name: Annotated[str, typer.Option(help="What status reports call it [default: the tier].")] = "",
) -> None:
    """Run one node on this host until SIGTERM.  One JSON line on stdout says when it is ready and where.

    Start the cloud first, then the edge with --upstream, then the device.
    """
    from drlctl.node import serve
    from drlctl.systems import node_config
    from envs.scenario import load_scenario

    config = node_config(
        load_scenario(scenario),
        tier.value,
        listen=listen,
        upstream=upstream,
        neighbours=tuple(neighbour or ()),
        controller=controller,
        cost_model=cost_model,
        emulate=emulate,
        model_dirs=tuple(model_dir or ()),
        name=name,
    )
    raise typer.Exit(serve(config))
