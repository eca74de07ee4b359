"""`drlctl serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, as `drlctl train` writes it.")],
    listen: Annotated[str, typer.Option(help="Where devices ask: tcp://HOST:PORT or ipc://PATH; * is a free port.")] = "tcp://127.0.0.1:*",
    http: Annotated[str, typer.Option(help="HOST:PORT of /livez, /readyz, /metrics and /status; empty for none.")] = "127.0.0.1:0",
    cost_model: Annotated[
        list[Path] | None, typer.Option(help="Cost model (JSON) or bundle of another model, for which greedy decides; may be repeated.")
    ] = None,
    max_age: Annotated[
        float | None,
        typer.Option(min=0.0, help="Seconds after which telemetry is stale and greedy decides [default: the scenario's peer timeout]."),
    ] = None,
    grace: Annotated[float, typer.Option(min=0.0, help="Seconds that SIGTERM leaves for what is queued.")] = 10.0,
    exit_with_parent: Annotated[bool, typer.Option("--exit-with-parent", help="End when stdin does.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log reloads and signals to stderr.")] = False,
) -> None:
    """Run the controller daemon: answers devices in microseconds with BUNDLE until SIGTERM.

    One JSON line on stdout says when it is ready and where.  SIGHUP loads the bundle again; a bad one is refused and
    the old one goes on.  SIGTERM answers what is queued and ends with 0; a second one ends it at once.
    """
    import logging

    from drlctl.daemon import Daemon, DaemonConfig
    from drlctl.output import print_line

    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = DaemonConfig(
        bundle=bundle,
        listen=listen,
        http=http,
        cost_models=tuple(cost_model or ()),
        max_age_s=max_age,
        grace_s=grace,
        exit_with_parent=exit_with_parent,
    )
    raise typer.Exit(Daemon(config).run(print_line))
