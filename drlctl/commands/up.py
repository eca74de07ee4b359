"""`drlctl up`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from drlctl.commands.options import ScenarioArgument, StateOption


def command(
    scenario: ScenarioArgument = "congested",
    bundle: Annotated[Path | None, typer.Option(help="Serve this bundle too: the device asks it, and falls back to greedy.")] = None,
    controller: Annotated[str, typer.Option(help="Address of a running `drlctl serve`: the device asks it.")] = "",
    profile: Annotated[
        Path | None, typer.Option(help="Profile of SCENARIO: the device falls back to greedy on it [default: to staying on the device].")
    ] = None,
    state: StateOption = None,
) -> None:
    """Run SCENARIO's device, edge and cloud on this host until Ctrl-C or SIGTERM.

    One JSON line on stdout says when they are ready and where; `drlctl infer` finds them by themselves.
    """
    from agents.bundle import load_bundle
    from drlctl.output import ProgressLine, note, print_line
    from drlctl.players import learned_rule
    from drlctl.served import served_bundle
    from drlctl.state import state_path
    from drlctl.systems import cost_model_file, published_system, read_profile
    from drlctl.watching import Watch, job_line, until_stopped
    from envs.scenario import load_scenario

    chosen = load_scenario(scenario)
    tau = learned_rule(load_bundle(bundle), chosen) if bundle is not None else None
    path, cost_model = state_path(state), bundle
    with contextlib.ExitStack() as stack:
        if profile is not None:
            cost_model = stack.enter_context(cost_model_file(read_profile(profile, chosen), chosen))
        if bundle is not None:
            controller = str(stack.enter_context(served_bundle(bundle)).ready["address"])
        with ProgressLine() as progress:
            system = stack.enter_context(published_system(chosen, path, progress, cost_model=cost_model, controller=controller, tau=tau))
        for line in chosen.topology.emulation_notice():
            note(line)
        ready = {"ready": True, "scenario": chosen.name, "addresses": system.state.addresses, "pids": system.nodes.pids, "state": str(path)}
        print_line(ready)
        try:
            until_stopped(Watch(system))
        finally:
            if system.job is not None:
                note(job_line(system.job.report))
        note("stopping")
