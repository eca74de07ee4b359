"""Ids of requests: bounded, and another's in every session."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime.links import REQUEST_ID_BITS
from runtime.messages import NUM_REQUEST_IDS, Measure, Submit, Work
from runtime.session import session_ids
from runtime.training.protocol.rounds import transfer_ids
from tests.runtime.protocol_helpers import decision

ASKS: list[Callable[[int], object]] = [
    lambda id: Submit(request_id=id, model="tiny", deadline_s=1.0),
    lambda id: Work(request_id=id, decision=decision((0, 3)), stage=0, budget_s=1.0),
    lambda id: Measure(request_id=id, model="tiny", variant="fp32", start=0, stop=1, exit=None, repeats=1),
]


@pytest.mark.parametrize("ask", ASKS)
def test_ids_of_probes_and_transfers_are_none_of_requests(ask: Callable[[int], object]) -> None:
    """A request cannot take the id of a probe (negative) or of a transfer of training (from 2^50 on)."""
    assert next(transfer_ids()) == NUM_REQUEST_IDS == 2**50
    for request_id in (0, NUM_REQUEST_IDS - 1):
        ask(request_id)
    for request_id in (-1, NUM_REQUEST_IDS):
        with pytest.raises(ValueError, match=r"request_id must be in 0..2\^50 - 1"):
            ask(request_id)


def test_sessions_have_ids_of_their_own() -> None:
    """Two that count side by side never meet; all are a request's, and their low bits are those of an episode's first ones."""
    first, second = ([next(ids) for _ in range(100)] for ids in (session_ids(), session_ids()))
    assert not set(first) & set(second)
    for ids in (first, second):
        assert [request_id % (1 << REQUEST_ID_BITS) for request_id in ids] == list(range(100))
        assert 2**48 <= min(ids) <= max(ids) < 2**49
