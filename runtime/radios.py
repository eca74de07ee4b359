"""Named radios, as published.  To add one: one line in `RADIOS`.

Slopes and bases of 3G, LTE and WiFi: Huang et al., MobiSys 2012, table of power model parameters.  Their promotions and
tails are from the same paper's measurements of state timers and powers; 3G's two tails (DCH 8.088 s at 803.9 mW, FACH
0.824 s at 601.3 mW) are one of the same length and energy here.  Whole single packets are then within 2 % of the
paper's 12.76 J (LTE), 7.38 J (3G) and, rounded, 0.04 J (WiFi).

5G is millimetre wave, from "A variegated look at 5G in the wild", SIGCOMM 2021: slopes are least-squares fits of its
public artefact (Minneapolis, whole-phone power, R^2 0.84 up and 0.87 down), the tail's power is the paper's.  The base is
*derived*: LTE's, plus how far the 5G fit's intercept lies above the same fit's for LTE (5.664 - 2.926 W), because the
intercepts include the rest of the phone.  The tail's length of 10.5 s is *assumed*, about LTE's; a promotion is left out.
Give your own in `radio_power` where that matters.
"""

from __future__ import annotations

from typing import Literal

from runtime.energy import RadioPower, RadioStates

RadioName = Literal["3g", "5g-mmwave", "lte", "wifi"]


def _radio(slope: float, receive_slope: float, base: float, promotion: tuple[float, float], tail: tuple[float, float]) -> RadioPower:
    """A radio from milliwatts (per Mbit/s), and (milliseconds, milliwatts) of its promotion and tail."""
    per_byte = 1e-3 * 8 / 1e6
    return RadioPower(
        slope_watts_per_byte_per_s=slope * per_byte,
        base_watts=base / 1e3,
        states=RadioStates(
            promotion_s=promotion[0] / 1e3,
            promotion_watts=promotion[1] / 1e3,
            tail_s=tail[0] / 1e3,
            tail_watts=tail[1] / 1e3,
            receive_slope_watts_per_byte_per_s=receive_slope * per_byte,
        ),
    )


RADIOS: dict[RadioName, RadioPower] = {
    "3g": _radio(868.98, 122.12, 817.88, (582.1, 659.4), (8088.2 + 824.2, (8088.2 * 803.9 + 824.2 * 601.3) / (8088.2 + 824.2))),
    "5g-mmwave": _radio(8.88, 1.73, 1288.04 + 5664 - 2926, (0.0, 0.0), (10500.0, 1092.0)),
    "lte": _radio(438.39, 51.97, 1288.04, (260.1, 1210.7), (11576.0, 1060.0)),
    "wifi": _radio(283.17, 137.01, 132.86, (79.1, 124.4), (238.1, 119.3)),
}
"""Name -> parameters, as `radio = "lte"` of a topology takes them."""
