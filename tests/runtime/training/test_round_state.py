"""A round accepts each update at most once, refuses the rest with a reason, and ends."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidConfig, InvalidInput
from runtime.training.round_state import REFUSALS, RoundConfig, RoundState
from tests.runtime.training.updates import update_of


def open_round(quorum: int = 2, max_examples: int | None = None) -> RoundState:
    """Round 5 of clients a, b, c with two parameters, until 10 s."""
    return RoundState(
        RoundConfig(round=5, clients=("a", "b", "c"), num_parameters=2, quorum=quorum, deadline_at_s=10.0, max_examples=max_examples)
    )


def test_the_last_client_closes_the_round() -> None:
    """Nobody waits for the deadline once all have answered."""
    state = open_round()
    for client in "abc":
        assert state.phase == "open"
        assert state.offer(update_of([1, 2], client, round_=5), 1.0) is None
    assert (state.phase, state.stragglers(), state.num_accepted()) == ("closed", (), 3)
    assert [update.header.client for update in state.take()] == ["a", "b", "c"]


def test_updates_are_taken_once() -> None:
    """A second take would apply them twice."""
    state = open_round()
    for client in "abc":
        state.offer(update_of([1, 2], client, round_=5), 1.0)
    state.take()
    with pytest.raises(InvalidInput, match="round 5 is taken"):
        state.take()


def test_the_deadline_closes_a_round_with_quorum_and_fails_one_without() -> None:
    """At its very instant; who is missing is known."""
    for num_heard, phase in ((2, "closed"), (1, "failed")):
        state = open_round()
        for client in "abc"[:num_heard]:
            state.offer(update_of([1, 2], client, round_=5), 9.99)
        assert state.poll(9.999) == "open"
        assert state.poll(10.0) == phase
        assert state.stragglers() == tuple("abc"[num_heard:])
    with pytest.raises(InvalidInput, match="round 5 is failed"):
        state.take()


@pytest.mark.parametrize(
    ("client", "round_", "delta", "examples", "now_s", "reason"),
    [
        ("z", 5, [1, 2], 1, 1.0, "unknown_client"),
        ("b", 4, [1, 2], 1, 1.0, "stale_round"),
        ("b", 6, [1, 2], 1, 1.0, "future_round"),
        ("a", 5, [1, 2], 1, 1.0, "duplicate"),
        ("b", 5, [1, 2], 1, 10.0, "late"),
        ("b", 5, [1, 2], 101, 1.0, "too_many_examples"),
        ("b", 5, [1, 2, 3], 1, 1.0, "wrong_shape"),
        ("b", 5, [1, np.nan], 1, 1.0, "not_finite"),
        ("b", 5, [1, -np.inf], 1, 1.0, "not_finite"),
    ],
)
def test_each_kind_of_bad_update_has_its_reason(
    client: str, round_: int, delta: list[float], examples: int, now_s: float, reason: str
) -> None:
    """Refused, counted once, and nothing else is changed: a refused client may still send a good one in time."""
    state = open_round(max_examples=100)
    assert state.offer(update_of([0, 0], "a", round_=5), 0.0) is None
    assert state.offer(update_of(delta, client, examples, round_), now_s) == reason
    assert {key: count for key, count in state.num_refused.items() if count} == {reason: 1}
    assert state.num_accepted() == 1
    assert (state.offer(update_of([1, 1], "b", round_=5), 1.0) is None) == (now_s < 10.0)


def test_a_float64_update_is_refused() -> None:
    """The wire's dtype is float32; another one means another program."""
    update = update_of([1, 2], "a", round_=5)
    wide = type(update)(header=update.header, delta=update.delta.astype(np.float64))
    assert open_round().offer(wide, 0.0) == "wrong_dtype"


def test_a_lost_client_is_not_waited_for() -> None:
    """It counts as heard, its late update does not count, and without quorum the round fails at once."""
    state = open_round()
    state.give_up_on("c", 1.0)
    assert state.offer(update_of([1, 2], "c", round_=5), 2.0) == "late"
    state.offer(update_of([1, 2], "a", round_=5), 3.0)
    state.offer(update_of([1, 2], "b", round_=5), 3.0)
    assert (state.phase, state.stragglers()) == ("closed", ("c",))
    hopeless = open_round()
    for client in "abc":
        hopeless.give_up_on(client, 1.0)
    assert hopeless.phase == "failed"


OFFERS = st.lists(
    st.tuples(
        st.sampled_from("abcz"), st.sampled_from([4, 5, 5, 5, 6]), st.sampled_from([1.0, np.nan]), st.floats(0.0, 12.0), st.booleans()
    ),
    max_size=25,
)


@settings(max_examples=80)
@given(OFFERS)
def test_whatever_arrives_each_offer_is_accepted_once_or_counted_once(offers: list[tuple[str, int, float, float, bool]]) -> None:
    """Offers = accepted + refused; at most one accepted per client; an ended round never changes."""
    state, results = open_round(), []
    for client, round_, value, now_s, lost in sorted(offers, key=lambda offer: offer[3]):
        ended = state.phase != "open"
        before = (state.phase, state.num_accepted())
        if lost:
            state.give_up_on(client, now_s)
        else:
            results.append((client, state.offer(update_of([value, 0.0], client, round_=round_), now_s)))
        assert not ended or (state.phase, state.num_accepted()) == before
    accepted = Counter(client for client, reason in results if reason is None)
    assert len(results) == state.num_accepted() + sum(state.num_refused.values())
    assert all(count == 1 for count in accepted.values())
    assert state.poll(10.0) == ("closed" if len(accepted) >= 2 else "failed")


def test_impossible_rounds_are_refused() -> None:
    """A quorum above the clients can never be met."""
    for change in ({"quorum": 4}, {"quorum": 0}, {"clients": ("a", "a")}, {"deadline_at_s": float("nan")}):
        settings_ = {"round": 0, "clients": ("a", "b", "c"), "num_parameters": 1, "quorum": 1, "deadline_at_s": 1.0} | change
        with pytest.raises(InvalidConfig):
            RoundConfig(**settings_)  # type: ignore[arg-type]
    assert len(set(REFUSALS)) == len(REFUSALS) == 10
