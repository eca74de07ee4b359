"""The radio's states: worked out by hand, and for any sequence the shares are the integral of the power."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.energy import ComputePower, RadioPower, RadioStates, request_energy_joules
from runtime.errors import InvalidConfig, InvalidInput
from runtime.radio import Radio, Transmission, shares_joules, timeline
from runtime.radios import RADIOS
from runtime.topology import Topology

POWER = RadioPower(
    slope_watts_per_byte_per_s=0.01,
    base_watts=2.0,
    states=RadioStates(promotion_s=0.5, promotion_watts=4.0, tail_s=3.0, tail_watts=1.0, receive_slope_watts_per_byte_per_s=0.001),
)
"""Promotion 2 J, a whole tail 3 J."""

lengths = st.floats(0.0, 5.0).map(lambda value: round(value, 3))
powers = st.builds(
    RadioPower,
    slope_watts_per_byte_per_s=st.floats(0.0, 1.0),
    base_watts=st.floats(0.0, 5.0),
    states=st.builds(
        RadioStates,
        promotion_s=lengths,
        promotion_watts=st.floats(0.0, 5.0),
        tail_s=lengths,
        tail_watts=st.floats(0.0, 5.0),
        receive_slope_watts_per_byte_per_s=st.floats(0.0, 1.0),
    ),
)


@st.composite
def sequences(draw: st.DrawFn) -> list[Transmission]:
    """Transmissions with rising instants."""
    gaps = draw(st.lists(st.floats(0.0, 12.0), max_size=12))
    return [
        Transmission(
            at_s=at_s,
            num_bytes=draw(st.floats(0.0, 1000.0)),
            duration_s=draw(lengths),
            direction=draw(st.sampled_from(("up", "down"))),
        )
        for at_s in np.cumsum(gaps).tolist()
    ]


def test_a_single_packet_by_hand() -> None:
    """Promotion 0.5 s * 4 W, active 100 B * 0.01 + 1 s * 2 W, tail 3 s * 1 W: 2 + 3 + 3 J."""
    (share,) = shares_joules(POWER, [Transmission(at_s=10.0, num_bytes=100, duration_s=1.0)])
    assert share == pytest.approx(8.0)


def test_each_case_by_hand() -> None:
    """Idle, queued behind the active one, within the tail, received within it, and idle again."""
    sequence = [
        Transmission(at_s=0.0, num_bytes=100, duration_s=1.0),  # on the air 0.5..1.5: 2 + 3 + 3
        Transmission(at_s=1.0, num_bytes=100, duration_s=1.0),  # 1.5..2.5, moves the tail by no more than itself: 3
        Transmission(at_s=4.5, num_bytes=50, duration_s=0.5),  # 2 s of the tail gone: 0.5 + 1 + 2 * 1
        Transmission(at_s=6.0, num_bytes=1000, direction="down"),  # 1 s of the tail gone: 1 + 1 * 1
        Transmission(at_s=9.5, num_bytes=0, duration_s=1.0),  # idle since 9.0: 2 + 2 + 3
    ]
    assert shares_joules(POWER, sequence) == pytest.approx([8.0, 3.0, 3.5, 2.0, 7.0])
    states = [(one.state, one.start_s, one.end_s) for one in timeline(POWER, sequence) if one.end_s > one.start_s]
    assert states == [
        ("promotion", 0.0, 0.5),
        ("active", 0.5, 1.5),
        ("active", 1.5, 2.5),
        ("tail", 2.5, 4.5),
        ("active", 4.5, 5.0),
        ("tail", 5.0, 6.0),
        ("tail", 6.0, 9.0),
        ("promotion", 9.5, 10.0),
        ("active", 10.0, 11.0),
        ("tail", 11.0, 14.0),
    ]


@given(power=powers, sequence=sequences())
def test_shares_sum_to_the_integral_of_power_over_time(power: RadioPower, sequence: list[Transmission]) -> None:
    """Nothing is counted twice and nothing is lost, whatever the sequence; no share is negative."""
    shares = shares_joules(power, sequence)
    assert sum(shares) == pytest.approx(sum(one.joules for one in timeline(power, sequence)), rel=1e-9, abs=1e-9)
    assert all(share >= 0 for share in shares)


@given(power=powers, sequence=sequences())
def test_the_radio_is_in_one_state_at_a_time(power: RadioPower, sequence: list[Transmission]) -> None:
    """Intervals never overlap, and nothing begins before it was asked for."""
    intervals = timeline(power, sequence)
    for before, after in itertools.pairwise(intervals):
        assert before.start_s <= before.end_s <= after.start_s + 1e-9
    active = [one for one in intervals if one.state == "active"]
    assert all(one.start_s >= asked.at_s for one, asked in zip(active, sequence, strict=True))


@given(power=powers, sequence=sequences())
def test_a_share_is_what_the_transmission_adds(power: RadioPower, sequence: list[Transmission]) -> None:
    """The share of the last one is the total with it less the total without it."""
    totals = [sum(one.joules for one in timeline(power, sequence[:num])) for num in range(len(sequence) + 1)]
    assert shares_joules(power, sequence) == pytest.approx(np.diff(totals).tolist(), rel=1e-6, abs=1e-6)


@given(sequence=sequences(), slope=st.floats(0.0, 1.0), base=st.floats(0.0, 5.0))
def test_without_states_only_sending_costs(sequence: list[Transmission], slope: float, base: float) -> None:
    """The default: slope * bytes + base * seconds, what request_energy_joules says, and receiving is free but for its time."""
    power = RadioPower(slope_watts_per_byte_per_s=slope, base_watts=base)
    for share, one in zip(shares_joules(power, sequence), sequence, strict=True):
        sent = one.num_bytes if one.direction == "up" else 0.0
        assert share == pytest.approx(request_energy_joules(ComputePower(), power, 0.0, sent, one.duration_s))


def test_a_restarted_radio_is_idle() -> None:
    """The same transmission costs the same in the next episode, though little time has passed."""
    radio, one = Radio(POWER), Transmission(at_s=1.0, num_bytes=10, duration_s=0.1)
    first = radio.transmit(one)
    assert radio.transmit(Transmission(at_s=1.8, num_bytes=10, duration_s=0.1)) < first
    radio.restart()
    assert radio.transmit(Transmission(at_s=1.9, num_bytes=10, duration_s=0.1)) == pytest.approx(first)


@pytest.mark.parametrize(("name", "joules"), [("3g", 7.38), ("lte", 12.76), ("wifi", 0.04)])
def test_single_packets_cost_what_was_published(name: str, joules: float) -> None:
    """One packet with its promotion and tail, against the figure that the paper gives for it (WiFi's is rounded to 0.01 J)."""
    (share,) = shares_joules(RADIOS[name], [Transmission(at_s=0.0, num_bytes=1000, duration_s=0.002)])  # type: ignore[index]
    assert share == pytest.approx(joules, rel=0.02, abs=0.005)


def test_a_topology_names_its_radio() -> None:
    """`radio` sets the parameters, is told, and excludes others."""
    assert Topology(radio="lte").radio_power == RADIOS["lte"]
    assert any("tail of 11.576 s" in line for line in Topology(radio="lte").emulation_notice())
    assert not any("radio" in line for line in Topology().emulation_notice())
    with pytest.raises(InvalidConfig, match="not both"):
        Topology(radio="lte", radio_power=RadioPower(base_watts=9.0))


@pytest.mark.parametrize("field", RadioStates.__struct_fields__)
def test_impossible_states_are_refused(field: str) -> None:
    """No negative lengths or powers, and none without bound."""
    for value in (-1.0, float("inf"), float("nan")):
        with pytest.raises(InvalidConfig, match=field):
            RadioStates(**{field: value})


@pytest.mark.parametrize("fields", [{"at_s": float("nan")}, {"num_bytes": -1}, {"duration_s": float("inf")}])
def test_impossible_transmissions_are_refused(fields: dict[str, float]) -> None:
    """Sizes and times are finite and not negative."""
    with pytest.raises(InvalidInput):
        Transmission(**{"at_s": 0.0, "num_bytes": 1.0, **fields})
