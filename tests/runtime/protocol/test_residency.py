"""What may be in memory: within the budget, never at the cost of what is in use."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.models.pieces import Piece
from runtime.protocol.residency import Residency
from tests.runtime.distribution_helpers import GRAPH_BYTES, WEIGHTS_BYTES, loadable_manifest, piece

ALL = [piece(start, stop, exit, variant) for variant in ("fp32", "int8") for start, stop, exit in ((0, 1, None), (1, 3, 1), (0, 3, 1))]


def make(max_bytes: int | None) -> Residency:
    return Residency([loadable_manifest()], max_bytes)


def test_a_variants_weights_count_once_and_go_with_its_last_piece() -> None:
    """Two pieces of a variant take two graphs and one file of weights; the weights leave with the last of them."""
    residency = make(None)
    assert residency.admit([piece(0, 1), piece(1, 3, 1)], ()) == []
    assert residency.num_bytes == 2 * GRAPH_BYTES + WEIGHTS_BYTES
    residency.remove(piece(0, 1))
    assert residency.num_bytes == GRAPH_BYTES + WEIGHTS_BYTES
    residency.remove(piece(1, 3, 1))
    assert residency.num_bytes == 0


def test_the_least_recently_used_make_room() -> None:
    """What was used last stays; what goes is what was used longest ago, and no more than is needed."""
    residency = make(3 * GRAPH_BYTES + WEIGHTS_BYTES)
    for one in (piece(0, 1), piece(1, 3, 1), piece(0, 3, 1)):
        assert residency.admit([one], ()) == []
    residency.use([piece(0, 1)])
    assert residency.admit([piece(0, 2)], ()) == [piece(1, 3, 1)]


def test_what_is_in_use_is_never_evicted() -> None:
    """No room beside what is in use: nothing changes."""
    residency = make(GRAPH_BYTES + WEIGHTS_BYTES)
    assert residency.admit([piece(0, 1)], ()) == []
    assert residency.admit([piece(1, 3, 1)], {piece(0, 1)}) is None
    assert list(residency) == [piece(0, 1)]
    assert residency.admit([piece(1, 3, 1)], ()) == [piece(0, 1)]


@settings(max_examples=100)
@given(
    wishes=st.lists(
        st.tuples(st.sets(st.sampled_from(ALL), min_size=1, max_size=3), st.sets(st.sampled_from(ALL), max_size=2)), max_size=12
    ),
    graphs=st.integers(1, 6),
    weights=st.integers(1, 2),
)
def test_whatever_is_wished_the_budget_holds(wishes: list[tuple[set[Piece], set[Piece]]], graphs: int, weights: int) -> None:
    """After every wish: within the budget, what was let in is there, what is in use is there still, and the sum is right."""
    budget = graphs * GRAPH_BYTES + weights * WEIGHTS_BYTES
    residency = make(budget)
    for wished, in_use in wishes:
        before = set(residency)
        evicted = residency.admit(sorted(wished, key=str), in_use)
        assert residency.num_bytes <= budget
        assert residency.num_bytes == make(None).needed_bytes(residency)
        if evicted is None:
            assert set(residency) == before
            assert make(None).needed_bytes(wished | (before & in_use)) > budget
        else:
            assert set(residency) == (before | wished) - set(evicted)
            assert before & in_use <= set(residency)


@pytest.mark.parametrize("max_bytes", [None, 10_000])
def test_with_room_for_all_nothing_goes(max_bytes: int | None) -> None:
    """A budget that all fits into, or none, evicts nothing."""
    residency = make(max_bytes)
    assert residency.admit(ALL, ()) == []
    assert set(residency) == set(ALL)
