"""Work that waits until the pieces of a model that it needs are in memory.

    wait ──► room? ──► Load ──► Loaded ──► ready           no room: in line, first come first served, till others are done
                        ▲         │ files missing
                        └─ fetch ◄┘                        trouble: what waits for the piece ends with it

What waits is a request or a measurement, here a token.  Loads go on when whoever began them is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from runtime.models.pieces import Piece
from runtime.protocol.events import Instruction, Load, Loaded, RunMeasure, Unload
from runtime.protocol.fetching import Fetching, Trouble
from runtime.protocol.residency import Residency
from runtime.protocol.task import Task

Waiting = Task | RunMeasure
"""Who may wait."""
Ended = tuple[Waiting, tuple[Piece, ...], Trouble | None]
"""Who leaves the line, with pieces that are in memory, or with a trouble."""


@dataclass(slots=True, eq=False)
class _InLine:
    token: Waiting
    pieces: tuple[Piece, ...]
    admitted: bool = False
    trouble: Trouble | None = None


@dataclass(slots=True)
class _Pending:
    """A piece that is being loaded."""

    awaited: set[str] = field(default_factory=set)
    """Files that it waits for; none: a Load is out."""
    fetched: set[str] = field(default_factory=set)
    """Files that were fetched for it: they are not fetched twice."""


class Loading:
    """What is in memory, what is on its way there, and who waits for it."""

    def __init__(self, residency: Residency, fetching: Fetching) -> None:
        self._residency, self._fetching = residency, fetching
        self._from_the_start = frozenset(residency)
        self._line: list[_InLine] = []
        self._pending: dict[Piece, _Pending] = {}
        self._names: tuple[str, ...] | None = None
        self.counters: Counter[str] = Counter()

    # ------------------------------------------------------------ asking

    def ready(self, pieces: Iterable[Piece]) -> bool:
        """Whether all of them are in memory; if so they count as used."""
        pieces = tuple(pieces)
        if not all(piece in self._residency and piece not in self._pending for piece in pieces):
            return False
        self._residency.use(pieces)
        return True

    def wait(self, token: Waiting, pieces: tuple[Piece, ...]) -> Trouble | None:
        """Put somebody in line; `step` does the rest.  A trouble when memory can never hold what it needs."""
        needed, most = self._residency.needed_bytes(pieces), self._residency.max_bytes
        if most is not None and needed > most:
            return Trouble(reason="overload", message=f"{needed} bytes of model files are needed, model_memory_bytes is {most}")
        self._line.append(_InLine(token, pieces))
        return None

    def begin_anew(self, in_use: Collection[Piece]) -> list[Instruction]:
        """A new episode: nobody waits, and in memory is what was there from the start, what is in use, and what is under way."""
        self._line.clear()
        gone = [piece for piece in self._residency if not (piece in self._from_the_start or piece in in_use or piece in self._pending)]
        for piece in gone:
            self._residency.remove(piece)
        self._names = None
        return [Unload(piece=piece) for piece in gone]

    @property
    def num_waiting(self) -> int:
        """Who is in line."""
        return len(self._line)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Variants in memory, as `model/variant`."""
        if self._names is None:
            forms = {piece.form for piece in self._residency if piece not in self._pending}
            self._names = tuple(sorted(f"{model}/{variant}" for model, variant in forms))
        return self._names

    # ------------------------------------------------------------ going on

    def step(self, is_alive: Callable[[Waiting], bool], in_use: Callable[[], Collection[Piece]]) -> list[Instruction]:
        """Admit whom there is room for, in order; `in_use` tells what those who have left the line still need."""
        if not self._line:
            return []
        self._line = [entry for entry in self._line if is_alive(entry.token)]
        out: list[Instruction] = []
        for entry in self._line:
            if not entry.admitted:
                kept = {*in_use(), *self._pending, *(piece for other in self._line if other.admitted for piece in other.pieces)}
                absent = [piece for piece in entry.pieces if piece not in self._residency]
                evicted = self._residency.admit(entry.pieces, kept)
                if evicted is None:
                    break
                entry.admitted = True
                out += self._begin(absent, evicted)
        return out

    def take_ended(self) -> list[Ended]:
        """Those whose pieces are all in memory (None) or cannot be; they leave the line."""
        ended = [entry for entry in self._line if entry.trouble is not None or (entry.admitted and self.ready(entry.pieces))]
        self._line = [entry for entry in self._line if entry not in ended]
        return [(entry.token, entry.pieces, entry.trouble) for entry in ended]

    def on_loaded(self, event: Loaded) -> list[Instruction]:
        """A Load is done: the piece is there, or its files must be fetched, or it cannot be had."""
        pending = self._pending.get(event.piece)
        if pending is None:
            return []
        missing = {file.sha256: file for file in event.missing}
        if event.error or missing.keys() & pending.fetched:
            return self._give_up(event.piece, Trouble(reason="storage", message=event.error or "a file that was fetched is gone again"))
        if not missing:
            del self._pending[event.piece]
            self._names = None
            self.counters["loads"] += 1
            return []
        pending.awaited = set(missing)
        return [one for file in missing.values() for one in self._fetching.want(file.sha256, file.num_bytes, event.at_s)]

    def on_file(self, sha256: str, trouble: Trouble | None) -> list[Instruction]:
        """A fetch has ended: load what waited for nothing else, or end what cannot be loaded without it."""
        out: list[Instruction] = []
        for piece, pending in list(self._pending.items()):
            if sha256 not in pending.awaited:
                continue
            if trouble is not None:
                out += self._give_up(piece, trouble)
                continue
            pending.awaited.discard(sha256)
            pending.fetched.add(sha256)
            if not pending.awaited:
                out.append(Load(piece=piece))
        return out

    # ------------------------------------------------------------ details

    def _begin(self, absent: Sequence[Piece], evicted: Sequence[Piece]) -> list[Instruction]:
        self._names = None
        self.counters["evictions"] += len(evicted)
        self._pending.update((piece, _Pending()) for piece in absent)
        return [*(Unload(piece=piece) for piece in evicted), *(Load(piece=piece) for piece in absent)]

    def _give_up(self, piece: Piece, trouble: Trouble) -> list[Instruction]:
        del self._pending[piece]
        self._residency.remove(piece)
        self._names = None
        self.counters["failed_loads"] += 1
        for entry in self._line:
            if entry.admitted and piece in entry.pieces and entry.trouble is None:
                entry.trouble = trouble
        return [Unload(piece=piece)]
