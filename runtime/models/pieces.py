"""Pieces: the runnable segments of models by name, and which of them a decision makes a tier run."""

from __future__ import annotations

import msgspec

from runtime.messages import Decision, Tier
from runtime.models.manifest import Manifest, SegmentFile, StoredFile, segment_key


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Stages [start, stop) of a variant, and `exit`'s head where one follows: what is loaded and unloaded as one."""

    model: str
    variant: str
    start: int
    stop: int
    exit: int | None

    @property
    def form(self) -> tuple[str, str]:
        """The model and variant, whose weights it shares with other pieces."""
        return self.model, self.variant


def pieces_of(manifest: Manifest, decision: Decision, tier: Tier) -> tuple[Piece, ...]:
    """Everything that a decision may make a tier run, in order: with early exits several pieces, mostly one, or none."""
    start, stop = manifest.stage_range(decision, tier)
    if start == stop:
        return ()
    bounds: list[tuple[int, int, int | None]] = []
    position = start
    for candidate in manifest.early_exits(decision, tier):
        end = manifest.exit_ends[candidate]
        if position < end:
            bounds.append((position, end, None))
        bounds.append((end, end, candidate))
        position = end
    exit = decision.exit if stop == manifest.end(decision) else None
    if position < stop or exit is not None:
        bounds.append((position, stop, exit))
    return tuple(Piece(model=manifest.model, variant=decision.variant, start=i, stop=j, exit=head) for i, j, head in bounds)


def all_pieces(manifest: Manifest, tier: Tier) -> list[Piece]:
    """Everything that any decision may make a tier run."""
    return [
        Piece(model=manifest.model, variant=variant, start=start, stop=stop, exit=exit)
        for variant, info in manifest.variants.items()
        for start, stop, exit in manifest.segments(tier, early_exit=bool(info.exit_thresholds))
    ]


def segment_of(manifest: Manifest, piece: Piece) -> SegmentFile | None:
    """The file of a piece's graph; None when the model has no such segment."""
    return manifest.variants[piece.variant].segments.get(segment_key(piece.start, piece.stop, piece.exit))


def files_of(manifest: Manifest, piece: Piece) -> tuple[StoredFile, ...]:
    """The files that a piece is loaded from: its graph, and its variant's weights if it takes any.  Empty for no such segment."""
    segment, weights = segment_of(manifest, piece), manifest.variants[piece.variant].weights
    if segment is None:
        return ()
    return (segment, weights) if segment.weights and weights is not None else (segment,)
