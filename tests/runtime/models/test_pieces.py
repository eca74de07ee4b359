"""What a decision makes a tier run is known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.inference.early_exit import run_segment
from runtime.inference.engine import Engine
from runtime.messages import TIERS, Decision
from runtime.models.examples import load_examples
from runtime.models.manifest import load_manifest
from runtime.models.pieces import Piece, all_pieces, files_of, pieces_of
from tests.runtime.protocol_helpers import tiny_manifest


@pytest.mark.parametrize(
    ("cuts", "expected"),
    [
        ((3, 3), [[(0, 3, 1)], [], []]),
        ((1, 2), [[(0, 1, None)], [(1, 2, None)], [(2, 3, 1)]]),
        ((0, 0), [[], [], [(0, 3, 1)]]),
    ],
)
def test_a_decision_gives_each_tier_its_piece(cuts: tuple[int, int], expected: list[list[tuple[int, int, int | None]]]) -> None:
    """Without early exits one piece for each tier that computes, with the exit's head where the request ends."""
    decision = Decision(model="tiny", variant="fp32", cuts=cuts, exit=1)
    found = [[(one.start, one.stop, one.exit) for one in pieces_of(tiny_manifest(), decision, tier)] for tier in TIERS]
    assert found == expected


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("cuts", [(7, 7), (2, 7), (3, 5), (0, 0)])
def test_nothing_else_is_run_than_was_foreseen(digits_model: Path, cuts: tuple[int, int], early: bool) -> None:
    """The sessions that running a decision makes are those of its pieces; with early exits, of the first of them."""
    manifest, image = load_manifest(digits_model), load_examples(digits_model, "test").images[0]
    decision = Decision(model="digits-cnn", variant="fp32", cuts=cuts, exit=2, early_exit=early)
    tensors: list[np.ndarray] = [image]
    for tier in TIERS:
        start, stop = manifest.stage_range(decision, tier)
        if start == stop:
            continue
        engine, exit = Engine(digits_model), decision.exit if stop == manifest.end(decision) else None
        answer = run_segment(engine, "fp32", start, stop, exit, manifest.early_exits(decision, tier), tensors)
        run = {Piece(model="digits-cnn", variant=key[0], start=key[1], stop=key[2], exit=key[3]) for key in engine._runners}
        foreseen = pieces_of(manifest, decision, tier)
        assert run == set(foreseen[: len(run)])
        assert set(foreseen) <= set(all_pieces(manifest, tier))
        assert all(files_of(manifest, one) for one in foreseen)
        if answer.exit is not None:
            return
        assert run == set(foreseen)
        tensors = answer.tensors
