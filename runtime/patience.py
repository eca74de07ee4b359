"""How long an answer is waited for before its question is asked again, which costs a slow link a second answer."""

from __future__ import annotations

ROUND_TRIPS = 4
"""An answer may take this many times what the last one took: as many as are under way at once may come before it."""


class Patience:
    """Doubles with each question that is asked again; `wait_s` follows what answers take, and is never below `least_s`.

    An answer to a question that was asked twice tells nothing, for nobody knows which of the two it answers: what the
    doubling came to holds until a question is answered that was asked once.
    Source: RFC 6298, sections 3 (Karn's algorithm) and 5.5.
    """

    def __init__(self, least_s: float, wait_s: float = 0.0) -> None:
        self._least_s = least_s
        self._asked_twice = False
        self.wait_s = max(least_s, wait_s)

    def asked_again(self) -> None:
        """No answer came for `wait_s`."""
        self.wait_s *= 2
        self._asked_twice = True

    def answered(self, took_s: float) -> None:
        """The answer came that long after its question; the next question is a new one."""
        if not self._asked_twice:
            self.wait_s = max(self._least_s, ROUND_TRIPS * took_s)
        self._asked_twice = False
