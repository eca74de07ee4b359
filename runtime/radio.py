"""The radio's states over all transmissions of one device, and each one's share of the energy.

    idle --promotion--> active --tail--> idle        a transmission while the tail lasts: no promotion, and the
                          ^        |                 tail starts anew behind it
                          +--------+

Transmissions are served one after another, in the order given: one that comes while the radio is active or wakes up
begins when it is free, one that finds it idle begins a promotion later.

A transmission's share is its *marginal* energy: how much more the radio draws, until it is idle for good, than
it would have after the transmissions before it alone.

    share = promotion (if it was idle) + active + tail power * (tail length - what was left of the tail before it)

So it is known when the transmission is, not only when its tail is over; what the next one cuts off a tail is taken off
the next one's share; and the shares of an episode sum to the integral of the power over time, the last tail whole.

Source of the states and of the power while active: Huang et al., "A close examination of performance and power
characteristics of 4G LTE networks", MobiSys 2012, sections 3 and 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import msgspec

from runtime.energy import RadioPower
from runtime.errors import InvalidInput

Direction = Literal["up", "down"]
IDLE_SINCE_EVER = -math.inf


class Transmission(msgspec.Struct, frozen=True, kw_only=True):
    """One payload sent or received.  Raises InvalidInput for sizes or times that are negative or not finite."""

    at_s: float
    """When it was given to the radio; any clock, the same for all."""
    num_bytes: float
    duration_s: float = 0.0
    """Time on the air.  0 where only the bytes are known: an instant that draws no base power."""
    direction: Direction = "up"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.at_s) and 0 <= self.num_bytes < math.inf and 0 <= self.duration_s < math.inf):
            raise InvalidInput(f"a transmission needs a finite instant, bytes >= 0 and a duration >= 0, got {self}")


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """The radio in one state, idle left out (it draws nothing above idle)."""

    state: Literal["promotion", "active", "tail"]
    start_s: float
    end_s: float
    joules: float


def active_joules(power: RadioPower, transmission: Transmission) -> float:
    """slope * bytes + base * duration."""
    up = transmission.direction == "up"
    slope = power.slope_watts_per_byte_per_s if up else power.around.receive_slope_watts_per_byte_per_s
    return slope * transmission.num_bytes + power.base_watts * transmission.duration_s


def step(power: RadioPower, free_at_s: float, transmission: Transmission) -> tuple[float, float]:
    """(when the radio is free again, the transmission's marginal joules), `free_at_s` being when it was free before."""
    states = power.around
    start_s = max(transmission.at_s, free_at_s)
    joules = active_joules(power, transmission) + states.tail_watts * min(states.tail_s, start_s - free_at_s)
    if start_s > free_at_s + states.tail_s:
        start_s += states.promotion_s
        joules += states.promotion_watts * states.promotion_s
    return start_s + transmission.duration_s, joules


def shares_joules(power: RadioPower, transmissions: Iterable[Transmission]) -> list[float]:
    """Marginal energy of each transmission; they sum to the joules of `timeline`."""
    radio = Radio(power)
    return [radio.transmit(transmission) for transmission in transmissions]


def timeline(power: RadioPower, transmissions: Iterable[Transmission]) -> list[Interval]:
    """Every interval that the radio was not idle, in order: its energy is the sum of theirs.  The last tail is whole."""
    states, intervals, free_at_s = power.around, list[Interval](), IDLE_SINCE_EVER
    for transmission in transmissions:
        start_s = max(transmission.at_s, free_at_s)
        if free_at_s != IDLE_SINCE_EVER:
            intervals.append(_drawn("tail", free_at_s, min(start_s, free_at_s + states.tail_s), states.tail_watts))
        if start_s > free_at_s + states.tail_s:
            intervals.append(_drawn("promotion", start_s, start_s + states.promotion_s, states.promotion_watts))
            start_s += states.promotion_s
        free_at_s = start_s + transmission.duration_s
        intervals.append(Interval(state="active", start_s=start_s, end_s=free_at_s, joules=active_joules(power, transmission)))
    if intervals:
        intervals.append(_drawn("tail", free_at_s, free_at_s + states.tail_s, states.tail_watts))
    return intervals


def _drawn(state: Literal["promotion", "tail"], start_s: float, end_s: float, watts: float) -> Interval:
    return Interval(state=state, start_s=start_s, end_s=end_s, joules=watts * (end_s - start_s))


class Radio:
    """One device's radio while it runs: idle at first."""

    def __init__(self, power: RadioPower) -> None:
        self.power = power
        self._free_at_s = IDLE_SINCE_EVER

    def restart(self) -> None:
        """Idle again, as at the start of an episode."""
        self._free_at_s = IDLE_SINCE_EVER

    def transmit(self, transmission: Transmission) -> float:
        """Its marginal joules.  Transmissions come in the order in which they are given to the radio."""
        self._free_at_s, joules = step(self.power, self._free_at_s, transmission)
        return joules
