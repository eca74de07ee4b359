"""When a peer that says that it is idle is given once more what it was given before: the first copy may be lost, or still on its way.

It is waited for twice as long after each copy, so that a link that takes long is not filled with copies; an answer tells what the
links really take, and that is waited for from then on.
Source: the retransmission timer of Paxson et al., RFC 6298, 2011, sections 2 and 5, with a constant in place of its variance.
"""

from __future__ import annotations

import math

AGAIN_S = 2.0
"""A client that has been given a round so lately, and says that it is idle, has answered or has not heard of it yet."""


class Patience:
    """With one peer, which is given something at `at_s`.  Time comes in with the calls."""

    def __init__(self, at_s: float = -math.inf) -> None:
        self._first_at_s = self._last_at_s = at_s
        self._wait_s = AGAIN_S

    def give(self, at_s: float) -> None:
        """It is given something new."""
        self._first_at_s = self._last_at_s = at_s

    def try_again(self, at_s: float) -> bool:
        """Whether it is to be given the same again now; then that counts as done."""
        if at_s - self._last_at_s < self._wait_s:
            return False
        self._last_at_s = at_s
        self._wait_s *= 2.0
        return True

    def answered(self, at_s: float, dwell_s: float) -> None:
        """It answered what it was given, which was with it for `dwell_s`.

        To which copy is not known.  Counted from the first the links took no less than they did.
        """
        self._wait_s = AGAIN_S + max(0.0, at_s - self._first_at_s - dwell_s)
