"""The host's share of the processor time, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from runtime.host import StealMeter, least_disturbed, stolen_fraction


class Scripted(StealMeter):
    """A meter that says what is written down for it."""

    def __init__(self, share: float | None) -> None:
        self._share = share

    def fraction(self) -> float | None:
        """It."""
        return self._share


def test_stolen_time_is_a_share_of_all_time() -> None:
    """Two seconds of ten; readings too close to one another tell nothing, nor does a system that does not count it."""
    before = SimpleNamespace(user=5.0, system=1.0, idle=3.0, steal=1.0)
    after = SimpleNamespace(user=9.0, system=2.0, idle=6.0, steal=3.0)
    assert stolen_fraction(before, after) == pytest.approx(0.2)
    assert stolen_fraction(after, after) is None
    assert stolen_fraction(SimpleNamespace(user=1.0), SimpleNamespace(user=2.0)) is None


def test_this_machine_tells_a_share_or_nothing() -> None:
    """Whatever it is, it is a share."""
    share = StealMeter().fraction()
    assert share is None or 0.0 <= share <= 1.0


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.0], (0, 0.0)),
        ([None], (0, None)),
        ([0.3, 0.02], (1, 0.02)),
        ([0.3, 0.1, 0.2], (1, 0.1)),
    ],
)
def test_measurements_are_repeated_while_the_host_disturbs(shares: list[float | None], expected: tuple[int, float | None]) -> None:
    """At most so often, and the least disturbed one counts."""
    numbers, meters = iter(range(len(shares))), iter(shares)
    assert least_disturbed(lambda: next(numbers), 3, lambda: Scripted(next(meters))) == expected
    assert next(numbers, None) is None
