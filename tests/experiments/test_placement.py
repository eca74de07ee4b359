"""Names of placements."""

from __future__ import annotations

import pytest

from experiments.placement import PLACEMENTS, placement
from runtime.messages import Decision

CASES = (
    ((7, 7), 1, "device"),
    ((0, 7), 1, "edge"),
    ((0, 0), 1, "cloud"),
    ((3, 7), 1, "device+edge"),
    ((3, 3), 1, "device+cloud"),
    ((0, 3), 1, "edge+cloud"),
    ((2, 4), 1, "device+edge+cloud"),
    ((3, 3), 0, "device"),
)


@pytest.mark.parametrize(("cuts", "exit", "name"), CASES)
def test_placements_by_hand(cuts: tuple[int, int], exit: int, name: str) -> None:
    """All seven ways, and an early exit whose end is a cut of the full model."""
    assert placement(Decision(model="m", variant="fp32", cuts=cuts, exit=exit), (3, 7)) == name


def test_every_placement_has_a_place_in_reports() -> None:
    """The listed order is complete."""
    names = {placement(Decision(model="m", variant="v", cuts=(p, q), exit=0), (4,)) for p in range(5) for q in range(p, 5)}
    assert names == set(PLACEMENTS)
