"""Running a segment that a request may leave on the way: at the first exit that is confident.

    start ... end of exit 0 -- head 0: sure? --> leave
              ... end of exit 1 -- head 1: sure? --> leave
                      ... stop [-- the decision's own head]

Every exit's branch point is a cut, so the pieces between are segments like any other and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.inference.confidence import normalised_entropy
from runtime.inference.engine import Engine


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What running a segment gave."""

    tensors: list[np.ndarray]
    """The logits of `exit`, or the tensors of the cut where the segment stops."""
    exit: int | None
    reference_s: float
    """Reference seconds of all that was run."""


def run_segment(
    engine: Engine, variant: str, start: int, stop: int, exit: int | None, early: Sequence[int], tensors: Sequence[np.ndarray]
) -> Answer:
    """Stages [start, stop) and `exit`'s head, if any, leaving at the first of the `early` exits that is confident.

    With no early exits this is one run of the engine.  Raises like `Engine.run`.
    """
    manifest, position, spent_s = engine.manifest, start, 0.0
    current = list(tensors)
    for candidate in early:
        end = manifest.exit_ends[candidate]
        if position < end:
            current = engine.run(variant, position, end, None, current)
            spent_s += manifest.reference_s(variant, position, end, None)
        (logits,) = engine.run(variant, end, end, candidate, current)
        spent_s += manifest.reference_s(variant, end, end, candidate)
        position = end
        if normalised_entropy(logits[0]) < manifest.variants[variant].exit_thresholds[candidate]:
            return Answer(tensors=[logits], exit=candidate, reference_s=spent_s)
    if position < stop or exit is not None:
        current = engine.run(variant, position, stop, exit, current)
        spent_s += manifest.reference_s(variant, position, stop, exit)
    return Answer(tensors=current, exit=exit, reference_s=spent_s)
