"""`drlctl up`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from drlctl.commands.options import ScenarioArgument, StateOption


def command(
    scenario: ScenarioArgument = "congested",
    profile: Annotated[
        Path | None,
        typer.Option(help="Profile of this scenario: the device falls back to greedy on it [default: to staying on the device]."),
    ] = None,
    controller: Annotated[str, typer.Option(help="Address of `drlctl serve`: the device asks it for every decision.")] = "",
    state: StateOption = None,
) -> None:
    """Run SCENARIO's device, edge and cloud on this host until Ctrl-C or SIGTERM.

    One JSON line on stdout says when they are ready and where; `drlctl infer` finds them by themselves.
    """
    from drlctl.output import ProgressLine, note, print_line
    from drlctl.state import state_path
    from drlctl.systems import published_system, until_stopped
    from envs.scenario import load_scenario

    chosen, path = load_scenario(scenario), state_path(state)
    with contextlib.ExitStack() as stack:
        with ProgressLine() as progress:
            system = stack.enter_context(published_system(chosen, path, progress, profile=profile, controller=controller))
        for line in chosen.topology.emulation_notice():
            note(line)
        ready = {"ready": True, "scenario": chosen.name, "addresses": system.state.addresses, "pids": system.nodes.pids, "state": str(path)}
        print_line(ready)
        until_stopped(system.nodes.check)
        note("stopping")
