"""When a question is asked again, by hand."""

from __future__ import annotations

import pytest

from runtime.patience import ROUND_TRIPS, Patience


def test_the_wait_doubles_and_holds_until_an_answer_is_unambiguous() -> None:
    """Asked twice more: 2, 4, 8 s.  The answer to that tells nothing; the next one, after 3 s, does."""
    patience = Patience(2.0)
    patience.asked_again()
    patience.asked_again()
    assert patience.wait_s == 8.0
    patience.answered(0.1)
    assert patience.wait_s == 8.0
    patience.answered(3.0)
    assert patience.wait_s == pytest.approx(ROUND_TRIPS * 3.0)


def test_it_is_never_shorter_than_the_least() -> None:
    """However quick the answers are; and it may begin with what others learned."""
    patience = Patience(2.0, 5.0)
    assert patience.wait_s == 5.0
    patience.answered(0.001)
    assert patience.wait_s == 2.0
