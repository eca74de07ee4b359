"""Device energy, modelled: computing above idle, and the radio while it sends.

Every figure made with this module is a model's, never a meter's.  What the radio does before and after sending is
runtime/radio.py.
"""

from __future__ import annotations

import math

import msgspec

from runtime.errors import InvalidConfig


def _require_amount(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise InvalidConfig(f"{name} of a radio must be finite and not negative, got {value}")


class ComputePower(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Power of the device's processor.  Defaults: Raspberry Pi 4, 7.3 W busy and 2.56 W idle.

    Raises InvalidConfig unless both are finite, and busy is at least idle: computing does not give energy back.
    Source: EdgeSimPy device presets (Suzen et al., HORA 2020).
    """

    busy_watts: float = 7.3
    idle_watts: float = 2.56

    def __post_init__(self) -> None:
        if not 0 <= self.idle_watts <= self.busy_watts < math.inf:
            got = f"busy_watts = {self.busy_watts}, idle_watts = {self.idle_watts}"
            raise InvalidConfig(f"power must be finite, idle_watts not negative, busy_watts at least idle_watts; got {got}: give both")

    def above_idle_joules(self, compute_s: float) -> float:
        """(busy - idle) * compute_s."""
        return (self.busy_watts - self.idle_watts) * compute_s


class RadioStates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a radio draws besides sending: waking up, staying awake afterwards, receiving.  Zeros: nothing.

    Raises InvalidConfig for a value that is negative or not finite.
    """

    promotion_s: float = 0.0
    """From idle until it can transmit."""
    promotion_watts: float = 0.0
    tail_s: float = 0.0
    """From the end of the last transmission until it is idle again."""
    tail_watts: float = 0.0
    receive_slope_watts_per_byte_per_s: float = 0.0
    """More power per rate of receiving."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            _require_amount(name, getattr(self, name))


NO_STATES = RadioStates()


class RadioPower(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Radio power while sending: P = slope * rate + base.  Defaults: LTE uplink, 438.39 mW per Mbit/s + 1288.04 mW.

    Raises InvalidConfig for a value that is negative or not finite.
    Source: Huang et al., MobiSys 2012, table of LTE/3G/WiFi power model parameters.
    """

    slope_watts_per_byte_per_s: float = 438.39e-3 * 8 / 1e6
    base_watts: float = 1.28804
    states: RadioStates | msgspec.UnsetType = msgspec.UNSET
    """Promotion, tail and receiving.  Absent: the radio costs nothing but while it sends."""

    def __post_init__(self) -> None:
        for name in ("slope_watts_per_byte_per_s", "base_watts"):
            _require_amount(name, getattr(self, name))

    @property
    def around(self) -> RadioStates:
        """The states, all zero where there are none."""
        return NO_STATES if isinstance(self.states, msgspec.UnsetType) else self.states


def request_energy_joules(
    compute: ComputePower, radio: RadioPower, compute_s: float, sent_bytes: float, sending_s: float, received_bytes: float = 0.0
) -> float:
    """Device energy of one request, promotion and tail left out.

        (busy - idle) * compute_s + slope * sent_bytes + base * sending_s + receive slope * received_bytes

    The radio's terms are P * t with P = slope * bytes / t + base; the base power of receiving is left out, for an
    answer is a few hundred bytes.  Works on floats and on arrays alike.
    """
    return (
        compute.above_idle_joules(compute_s)
        + radio.slope_watts_per_byte_per_s * sent_bytes
        + radio.base_watts * sending_s
        + radio.around.receive_slope_watts_per_byte_per_s * received_bytes
    )
