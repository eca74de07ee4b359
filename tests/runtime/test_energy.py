"""Powers that would give a request negative or no energy are no configuration."""

from __future__ import annotations

import math

import pytest

from runtime.energy import ComputePower, RadioPower
from runtime.errors import InvalidConfig


@pytest.mark.parametrize(
    "powers", [{"busy_watts": 1.5}, {"idle_watts": -1.0}, {"busy_watts": math.inf}, {"busy_watts": math.nan}, {"idle_watts": math.nan}]
)
def test_a_busy_processor_draws_at_least_what_an_idle_one_does(powers: dict[str, float]) -> None:
    """Busy below the default of idle too: the message says to give both."""
    with pytest.raises(InvalidConfig, match="give both"):
        ComputePower(**powers)


@pytest.mark.parametrize("name", ["slope_watts_per_byte_per_s", "base_watts"])
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_a_radio_draws_a_finite_power(name: str, value: float) -> None:
    """Its two parameters are checked as its states are."""
    with pytest.raises(InvalidConfig, match=name):
        RadioPower(**{name: value})  # type: ignore[arg-type]
