"""Device energy, modelled: computing above idle, and the radio while it sends.

Every figure made with this module is a model's, never a meter's.
"""

from __future__ import annotations

import msgspec


class ComputePower(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Power of the device's processor.  Defaults: Raspberry Pi 4, 7.3 W busy and 2.56 W idle.

    Source: EdgeSimPy device presets (Suzen et al., HORA 2020).
    """

    busy_watts: float = 7.3
    idle_watts: float = 2.56


class RadioPower(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Radio power while sending: P = slope * rate + base.  Defaults: LTE uplink, 438.39 mW per Mbit/s + 1288.04 mW.

    Source: Huang et al., MobiSys 2012, table of LTE/3G/WiFi power model parameters.
    """

    slope_watts_per_byte_per_s: float = 438.39e-3 * 8 / 1e6
    base_watts: float = 1.28804


def request_energy_joules(compute: ComputePower, radio: RadioPower, compute_s: float, sent_bytes: float, sending_s: float) -> float:
    """Device energy of one request: (busy - idle) * compute_s + slope * sent_bytes + base * sending_s.

    The radio term is P * t with P = slope * bytes / t + base.  Works on floats and on arrays alike.
    """
    return (
        (compute.busy_watts - compute.idle_watts) * compute_s + radio.slope_watts_per_byte_per_s * sent_bytes + radio.base_watts * sending_s
    )
