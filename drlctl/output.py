"""What people and scripts see: data on stdout, progress on stderr.

With `--json` stdout carries one JSON value and nothing else.  Progress is a live line on a terminal and plain
timestamped lines elsewhere.  NO_COLOR and TERM=dumb are honoured, by rich.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, float], None]
"""Told what is being done and which share of it is done, in [0, 1]."""

PLAIN_PERIOD_S = 5.0
"""Without a terminal: one line each time the text changes, and at most one in this time while it does not."""


def print_json(value: object) -> None:
    """One JSON value on stdout: structs, dicts, lists and numbers; floats that are not finite become null."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


def print_line(value: object) -> None:
    """One JSON value on one line of stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_text(text: str = "") -> None:
    """Plain text on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line for people on stderr, timestamped unless stderr is a terminal."""
    stamp = "" if sys.stderr.isatty() else time.strftime("%H:%M:%S ")
    sys.stderr.write(f"{stamp}{text}\n")
    sys.stderr.flush()


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], trailing: Sequence[str] | None = None) -> None:
    """A table on stdout: first column left, the others right.  `trailing`: free text that ends each row."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    endings = ["", *(trailing or [""] * len(rows))]
    for row, ending in zip((header, *rows), endings, strict=True):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)), ending]
        print_text("  ".join(cells).rstrip())


class ProgressLine:
    """Shows progress until its `with` block ends: `line(text, fraction)`."""

    def __init__(self) -> None:
        self._console: Console | None = None
        self._last_text, self._last_at_s = "", 0.0

    def __enter__(self) -> ProgressLine:
        if sys.stderr.isatty():
            from rich.console import Console  # only where it is shown

            self._console = Console(stderr=True)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._console is not None and self._last_text:
            self._console.print(" " * (self._console.width - 1), end="\r")

    def __call__(self, text: str, fraction: float) -> None:
        """Show that `fraction` of what `text` names is done."""
        if self._console is not None:
            line = f"  {fraction:4.0%} {text}"[: self._console.width - 1]
            self._console.print(line.ljust(self._console.width - 1), end="\r", highlight=False, markup=False, style="dim")
        elif text != self._last_text or time.monotonic() - self._last_at_s >= PLAIN_PERIOD_S:
            note(f"  {fraction:4.0%} {text}")
            self._last_at_s = time.monotonic()
        self._last_text = text
