"""`drlctl doctor`."""

from __future__ import annotations

import typer

from drlctl.commands.options import JsonOption


def command(as_json: JsonOption = False) -> None:
    """Check this machine: packages, cores, loopback, cache, models, scenarios.  Exit code 1 when something essential fails."""
    from drlctl.doctor import examine, is_fit
    from drlctl.output import print_json, print_table, print_text

    checks = examine()
    if as_json:
        print_json({"fit": is_fit(checks), "checks": checks})
    else:
        print_table(("check", "verdict"), [(check.name, check.verdict) for check in checks], [check.detail for check in checks])
        for check in checks:
            if check.fix:
                print_text(f"{check.verdict}: {check.name}: {check.fix}")
    raise typer.Exit(0 if is_fit(checks) else 1)
