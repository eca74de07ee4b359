"""The host's share of the processor time, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from experiments.host import StealMeter, stolen_fraction


def test_stolen_time_is_a_share_of_all_time() -> None:
    """Two seconds of ten; nothing spent at all is nothing stolen; a system that does not tell is not asked."""
    before = SimpleNamespace(user=5.0, system=1.0, idle=3.0, steal=1.0)
    after = SimpleNamespace(user=9.0, system=2.0, idle=6.0, steal=3.0)
    assert stolen_fraction(before, after) == pytest.approx(0.2)
    assert stolen_fraction(after, after) == 0.0
    assert stolen_fraction(SimpleNamespace(user=1.0), SimpleNamespace(user=2.0)) is None


def test_this_machine_tells_a_share_or_nothing() -> None:
    """Whatever it is, it is a share."""
    share = StealMeter().fraction()
    assert share is None or 0.0 <= share <= 1.0
