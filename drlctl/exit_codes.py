"""What each exit code means, and the one place that turns an exception into one.

Source: sysexits.h for 65..78, and the shell's 128 + n for a process ended by signal n.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

from runtime.errors import DrlctlError, InvalidBundle, InvalidModel, InvalidProfile, MissingExtra, PeerLost, SystemFailure, UnknownModel

OK, FAILURE, USAGE = 0, 1, 2
INTERNAL = SystemFailure.exit_code

EXIT_CODES: dict[int, str] = {
    OK: "done",
    FAILURE: "it did not work, or a check found a fault; the message says which",
    USAGE: "the command line is wrong; `--help` shows what is allowed",
    65: "bad data: a bundle, profile, picture, decision or model that cannot be used",
    69: "unavailable: a node or the controller does not answer, or an optional part is not installed",
    INTERNAL: "drlctl itself broke: a node did not start, or a fault in the program",
    76: "a peer answered with something that is not drlctl's protocol",
    78: "a scenario or configuration file is wrong; the message names the key",
    128 + signal.SIGINT: "interrupted (Ctrl-C)",
    128 + signal.SIGTERM: "ended by SIGTERM before it was done",
}
"""Every code that a command can end with, and what it tells a script."""

_HINTS: tuple[tuple[type[DrlctlError], str], ...] = (
    (PeerLost, "is it running? `drlctl up SCENARIO` starts a scenario's nodes, `drlctl serve BUNDLE` a controller"),
    (InvalidBundle, "`drlctl train SCENARIO --out FOLDER` makes a bundle for this scenario"),
    (InvalidModel, "docs/models.md says what a network must be to be cut"),
    (InvalidProfile, "`drlctl profile SCENARIO --out FILE` measures a profile"),
    (MissingExtra, "from a clone: pip install -e '.[train,report,secure]' -c constraints.txt"),
    (UnknownModel, "`drlctl doctor` says which models are here"),
    (SystemFailure, "`drlctl doctor` checks this machine"),
)


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like KeyboardInterrupt, so that `with` blocks clean up."""


def raise_on_sigterm() -> None:
    """From now on SIGTERM raises Terminated in the main thread instead of ending the process at once."""

    def handler(_signum: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
        raise Terminated

    signal.signal(signal.SIGTERM, handler)


def report(exc: BaseException) -> int:
    """Say on stderr what went wrong and how to mend it; return the exit code.  DRLCTL_DEBUG=1 adds the traceback."""
    if os.environ.get("DRLCTL_DEBUG", "") not in ("", "0"):
        traceback.print_exception(exc)
    if isinstance(exc, KeyboardInterrupt):
        return _say("interrupted", 128 + signal.SIGINT)
    if isinstance(exc, Terminated):
        return _say("ended by SIGTERM", 128 + signal.SIGTERM)
    if isinstance(exc, DrlctlError):
        hint = next((f"\nfix: {text}" for kind, text in _HINTS if isinstance(exc, kind) and text not in str(exc)), "")
        return _say(f"error: {exc}{hint}", exc.exit_code)
    if isinstance(exc, OSError):
        return _say(f"error: {exc}", FAILURE)
    return _say(f"error: a fault in drlctl: {type(exc).__name__}: {exc}\nfix: DRLCTL_DEBUG=1 shows where; please report it", INTERNAL)


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code
