"""The command line: one thin file per command in drlctl/commands, put together here.

Those files import only what parsing needs; each command imports the rest when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from drlctl.commands import demo, doctor, evaluate, fit, infer, levels, models, node, profile, report, serve, techniques, train, up, video
from drlctl.exit_codes import EXIT_CODES, Terminated, raise_on_sigterm
from drlctl.exit_codes import report as report_error

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())


class Commands(TyperGroup):
    """Turns whatever a command raises into one message and one exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.  `ctx` is typer's context."""
        raise_on_sigterm()
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except (KeyboardInterrupt, Terminated) as exc:
            raise typer.Exit(report_error(exc)) from None
        except Exception as exc:
            if _is_usage(exc):
                raise
            raise typer.Exit(report_error(exc)) from exc


def _is_usage(exc: Exception) -> bool:
    """Whether typer knows how to show it: its usage errors, whichever click it carries."""
    return hasattr(exc, "exit_code") and hasattr(exc, "format_message")


app = typer.Typer(
    cls=Commands,
    name="drlctl",
    help="Decides, request by request, where and how a neural network runs across device, edge and cloud.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help takes longer to import than everything else together
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (demo, up, node, profile, train, serve, infer, evaluate, techniques, video, fit, levels, report, doctor):
    app.command(module.__name__.rpartition(".")[2])(module.command)
app.add_typer(models.app, name="models")


def show_version(wanted: bool) -> None:
    """Print the version and leave, if that is wanted."""
    if wanted:
        from importlib.metadata import version

        typer.echo(version("drlctl"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and leave.")] = False,
) -> None:
    """Options of drlctl itself."""
