"""A run of training jobs: what has become of each so far, kept after every one of them.

unplayed ──add──► jobs            it came to its end
    └──leave_out──► left_out      its nodes refuse it, or it fails: the others are played all the same
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from experiments.fit_summary import FitSummary, fit_grid, fit_legend, summarise_fit
from experiments.runs import RunFolder
from experiments.table import plain_table
from runtime.errors import InvalidInput
from runtime.files import write_atomically
from runtime.messages import FitJob, RoundRecord


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A job of several that could not be played."""

    name: str
    reason: str


class FitRun(msgspec.Struct, frozen=True, kw_only=True):
    """What jobs came to, and where it is kept."""

    folder: str
    """Empty where nothing is kept."""
    emulated: tuple[str, ...]
    """What of the figures is emulated, for people."""
    jobs: tuple[FitSummary, ...]
    """Those that came to their end, in the order in which they were asked for."""
    left_out: tuple[LeftOut, ...] = ()
    unplayed: tuple[str, ...] = ()
    """Names of those whose turn is still to come, or that were interrupted."""


def run_lines(run: FitRun) -> list[str]:
    """The run for people: what is emulated, the table and its legend, and what is missing in it."""
    missing = [f"left out: {one.name}: {one.reason}" for one in run.left_out]
    if run.unplayed:
        missing.append(f"not played to the end: {', '.join(run.unplayed)}")
    return [*run.emulated, plain_table(fit_grid(run.jobs)), *(["", *missing] if missing else []), "", *fit_legend()]


class FitLedger:
    """What has become of a run's jobs, on disk before the next one begins: what is settled is not played again."""

    def __init__(self, folder: RunFolder, jobs: Sequence[FitJob], emulated: Sequence[str]) -> None:
        """As the run was left.  Raises InvalidInput when its files are corrupt."""
        self._folder, self._jobs, self._emulated = folder, tuple(jobs), tuple(emulated)
        before, self._lines = _read(folder)
        self._ended = {one.name: one for one in before.jobs if one.name in self._lines}
        self._left_out = {one.name: one for one in before.left_out}

    @property
    def to_play(self) -> tuple[FitJob, ...]:
        """Jobs that are not settled, in order."""
        return tuple(job for job in self._jobs if job.name not in self._ended and job.name not in self._left_out)

    @property
    def run(self) -> FitRun:
        """What there is so far."""
        names = [job.name for job in self._jobs]
        return FitRun(
            folder=str(self._folder.path),
            emulated=self._emulated,
            jobs=tuple(self._ended[name] for name in names if name in self._ended),
            left_out=tuple(self._left_out[name] for name in names if name in self._left_out),
            unplayed=tuple(job.name for job in self.to_play),
        )

    def add(self, job: FitJob, records: Sequence[RoundRecord]) -> None:
        """A job came to its end with at least one record.  Raises OSError."""
        self._ended[job.name] = summarise_fit(job, records)
        self._lines[job.name] = [msgspec.json.encode({"job": job.name, "record": record}) for record in records]
        ended = [line for each in self._jobs if each.name in self._ended for line in self._lines[each.name]]
        write_atomically(self._folder.rounds, b"\n".join(ended) + b"\n")
        self._write()

    def leave_out(self, job: FitJob, reason: str) -> None:
        """A job cannot be played.  Raises OSError."""
        self._left_out[job.name] = LeftOut(name=job.name, reason=reason)
        self._write()

    def _write(self) -> None:
        write_atomically(self._folder.summary, msgspec.json.format(msgspec.json.encode(self.run), indent=2) + b"\n")


class _Line(msgspec.Struct, frozen=True):
    job: str


def _read(folder: RunFolder) -> tuple[FitRun, dict[str, list[bytes]]]:
    """The summary, and the lines of rounds.jsonl by job; empty where the run has none yet, no lines where every job so far is left out."""
    if not folder.summary.exists():
        return FitRun(folder="", emulated=(), jobs=()), {}
    lines: dict[str, list[bytes]] = {}
    try:
        run = msgspec.json.decode(folder.summary.read_bytes(), type=FitRun)
        for line in folder.rounds.read_bytes().splitlines() if folder.rounds.exists() else ():
            lines.setdefault(msgspec.json.decode(line, type=_Line).job, []).append(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidInput(
            f"{folder.summary} or {folder.rounds.name} is corrupt: {exc}; remove both, and every job is asked again what it came to"
        ) from exc
    return run, lines
