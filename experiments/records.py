"""Records: one line of JSON per request and policy, from which every figure of a report is computed.

A file only ever grows, a whole line at a time.  A process that is killed leaves at most one torn line, the
last one: reading skips it with a warning, and opening the file to append removes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Self

import msgspec

from runtime.errors import InvalidInput
from runtime.messages import Breakdown, DecidedBy, Decision, Reused, Status, Tier

logger = logging.getLogger(__name__)

SystemKind = Literal["live", "simulated"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to one request under one policy, what it cost, and what had been expected."""

    run: str
    scenario: str
    system: SystemKind
    policy: str
    seed: int
    request_id: int
    arrival_s: float
    """Intended arrival, from the episode's start; the same for every policy."""
    example: int | None = None
    """Index of the picture in the held-out split; None when the split's size was not given."""
    status: Status
    message: str = ""
    decision: Decision | None = None
    decision_label: str = ""
    placement: str = ""
    """Tiers that the decision gives stages to, `device+edge`; empty without a decision."""
    decided_by: DecidedBy = "nobody"
    decision_s: float | None = None
    """Until the decision was there: asking and hearing from whoever decided, as the device saw it.

    In the simulator, which has no device that asks, the policy's thinking.
    """
    thinking_s: float | None = None
    """The policy alone; None where the device asked a daemon itself."""
    latency_s: float
    deadline_s: float
    breakdown: Breakdown = Breakdown()
    predicted_latency_s: float | None = None
    """What the cost model expected of this decision when it was taken; None where the device asked a daemon itself, and for
    an answer that was reused or computed on another edge: the cost model expects every request to be computed where it was decided."""
    simulated_latency_s: float | None = None
    """The same decisions replayed in the simulator; None when the request failed there or was not replayed, as those are not
    that were reused in a way which the simulator does not know, or handed to another edge, which it does not know either."""
    simulated_status: Status | None = None
    exit: int | None = None
    """The exit that answered; below the decision's when the request left early."""
    prediction: int | None = None
    confidence: float | None = None
    correct: bool | None = None
    energy_joules: float = 0.0
    """Modelled, not metered."""
    link_bytes: tuple[int, int] = (0, 0)
    down_bytes: tuple[int, int] = (0, 0)
    leakage: float = 0.0
    memory_bytes: tuple[int, int, int] = (0, 0, 0)
    cost: float
    cost_terms: dict[str, float]
    reused: Reused = "no"
    """Whether the answer was known already, and how."""
    reused_at: Tier | None = None
    """The tier that knew it."""
    handed_over: bool = False
    """The edge's share was done by a neighbour edge."""
    handover_bytes: tuple[int, int] = (0, 0)
    kept_awake: bool = False
    """Whether no processor of this machine was at rest meanwhile (runtime/awake.py)."""
    host_steal: float | None = None
    """Share of this machine's processor time that its host gave to others during the episode; None where that is not told."""
    attempts: int = 1
    """How often the episode was played: again when the host disturbed it, and the least disturbed attempt is this one."""

    @property
    def key(self) -> tuple[int, int]:
        """(seed, request_id): the same request under every policy."""
        return self.seed, self.request_id

    @property
    def failed(self) -> bool:
        """Whether it ended without an answer."""
        return self.status != "ok"

    @property
    def missed(self) -> bool:
        """Whether there was no answer by the deadline."""
        return self.failed or self.latency_s > self.deadline_s > 0


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Record)


class RecordWriter:
    """Appends records to a file, each flushed to the operating system as a whole line."""

    def __init__(self, path: Path) -> None:
        """Open for appending; a torn last line, left by a crash, is removed.  Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _heal(path)
        self._file = path.open("ab")

    def write(self, records: Iterable[Record]) -> None:
        """Append and flush, record by record.  Raises OSError (disk full); what was written before stays readable."""
        for record in records:
            self._file.write(_ENCODER.encode(record) + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_records(path: Path) -> list[Record]:
    """All records of a file.

    A torn last line (no newline, not JSON) is skipped with a warning; any other bad line raises InvalidInput naming it.
    """
    try:
        return list(_iterate(path))
    except OSError as exc:
        raise InvalidInput(f"cannot read records {path}: {exc.strerror}") from exc


def _iterate(path: Path) -> Iterator[Record]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield _DECODER.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
                if not line.endswith(b"\n"):
                    logger.warning("%s:%d: torn last line skipped; the writer was interrupted", path, number)
                    return
                raise InvalidInput(f"{path}:{number}: not a record: {exc}") from exc


def _heal(path: Path) -> None:
    """Make the file end with a whole line, so that the next one starts on its own."""
    with path.open("rb+") as file:
        data = file.read()
        if not data or data.endswith(b"\n"):
            return
        start = data.rfind(b"\n") + 1
        try:
            _DECODER.decode(data[start:])
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            logger.warning("%s: a torn last line of %d bytes was removed before appending", path, len(data) - start)
            file.truncate(start)
        else:
            file.write(b"\n")
