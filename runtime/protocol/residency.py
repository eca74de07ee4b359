"""Which pieces of models may be in memory, and which make room for others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from runtime.models.manifest import Manifest
from runtime.models.pieces import Piece, segment_of


class Residency:
    """Pieces within a budget of bytes, least recently used first; None: without bound.

    A piece takes the bytes of its graph's file, and the pieces of a variant together take those of its weights' file once.
    What ONNX Runtime adds to that is not known beforehand, and not counted.
    """

    def __init__(self, manifests: Iterable[Manifest], max_bytes: int | None) -> None:
        self._manifests = {manifest.model: manifest for manifest in manifests}
        self.max_bytes = max_bytes
        self._pieces: dict[Piece, None] = {}
        self._sharing: Counter[tuple[str, str]] = Counter()
        self.num_bytes = 0
        """Of all that is admitted."""

    def __contains__(self, piece: Piece) -> bool:
        return piece in self._pieces

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._pieces)

    def use(self, pieces: Iterable[Piece]) -> None:
        """These are needed now: they are the last to go."""
        for piece in pieces:
            self._pieces[piece] = self._pieces.pop(piece)

    def needed_bytes(self, pieces: Iterable[Piece]) -> int:
        """What these take when nothing else is there."""
        alone = Residency(self._manifests.values(), None)
        for piece in pieces:
            alone._add(piece)
        return alone.num_bytes

    def admit(self, pieces: Collection[Piece], in_use: Collection[Piece]) -> list[Piece] | None:
        """Let them all in, and give back those that go for it, never one in use; None, and no change, when that is not enough."""
        trial = self._copy()
        for piece in pieces:
            trial._add(piece)
        evicted = []
        for piece in self._pieces:
            if trial.fits:
                break
            if piece not in in_use and piece not in pieces:
                trial.remove(piece)
                evicted.append(piece)
        if not trial.fits:
            return None
        self._pieces, self._sharing, self.num_bytes = trial._pieces, trial._sharing, trial.num_bytes
        return evicted

    @property
    def fits(self) -> bool:
        """Whether all that is here is within the budget."""
        return self.max_bytes is None or self.num_bytes <= self.max_bytes

    def remove(self, piece: Piece) -> None:
        """It is in memory no more."""
        if piece not in self._pieces:
            return
        del self._pieces[piece]
        self.num_bytes -= self._graph_bytes(piece)
        if self._takes_weights(piece):
            self._sharing[piece.form] -= 1
            if not self._sharing[piece.form]:
                self.num_bytes -= self._weights_bytes(piece)

    def _add(self, piece: Piece) -> None:
        if piece in self._pieces:
            self.use((piece,))
            return
        self._pieces[piece] = None
        self.num_bytes += self._graph_bytes(piece)
        if self._takes_weights(piece):
            self._sharing[piece.form] += 1
            if self._sharing[piece.form] == 1:
                self.num_bytes += self._weights_bytes(piece)

    def _copy(self) -> Residency:
        twin = Residency(self._manifests.values(), self.max_bytes)
        twin._pieces, twin._sharing, twin.num_bytes = dict(self._pieces), Counter(self._sharing), self.num_bytes
        return twin

    def _graph_bytes(self, piece: Piece) -> int:
        segment = segment_of(self._manifests[piece.model], piece)
        return segment.num_bytes if segment is not None else 0

    def _takes_weights(self, piece: Piece) -> bool:
        segment = segment_of(self._manifests[piece.model], piece)
        return segment is not None and bool(segment.weights)

    def _weights_bytes(self, piece: Piece) -> int:
        weights = self._manifests[piece.model].variants[piece.variant].weights
        return weights.num_bytes if weights is not None else 0
