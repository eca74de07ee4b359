"""Observations as arrays."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.raw_state import RAW_FIELDS, RawState
from tests.envs.profiles import make_observation

BUSY = make_observation(
    device__backlog_s=0.01,
    device__num_own=1,
    edge__backlog_s=0.02,
    edge__num_waiting=2,
    edge__num_own=3,
    edge__age_s=0.04,
    cloud__backlog_s=0.05,
    cloud__num_waiting=4,
    cloud__num_own=5,
    cloud__age_s=0.06,
    cloud__reachable=False,
    uplink__rate_bytes_per_s=1e5,
    uplink__delay_s=0.007,
    uplink__outstanding_bytes=800.0,
    uplink__age_s=0.9,
    wan__rate_bytes_per_s=2e6,
    wan__delay_s=0.03,
    wan__outstanding_bytes=900.0,
    wan__age_s=1.1,
    deadline_s=0.25,
    num_in_flight=6,
    arrival_rate_per_s=33.0,
)


def test_an_observation_survives_the_way_there_and_back() -> None:
    """from_observation and to_observation are inverse, given what the rows do not hold."""
    raw = RawState.from_observation(BUSY)
    assert len(raw) == 1
    assert raw.to_observation(0, request_id=BUSY.request_id, model=BUSY.model, at_s=BUSY.at_s) == BUSY


def test_fields_are_named_like_the_observation() -> None:
    """A field's row holds the observation's value of that name."""
    raw = RawState.from_observation(BUSY)
    owners = {"device": BUSY.nodes[0], "edge": BUSY.nodes[1], "cloud": BUSY.nodes[2], "uplink": BUSY.links[0], "wan": BUSY.links[1]}
    for field in RAW_FIELDS:
        prefix, _, rest = field.partition("_")
        expected = getattr(owners[prefix], rest) if prefix in owners else getattr(BUSY, field)
        assert getattr(raw, field)[0] == expected, field


def test_several_observations_become_columns() -> None:
    """Column i of from_observations is observation i."""
    other = msgspec.structs.replace(BUSY, deadline_s=0.5)
    raw = RawState.from_observations([BUSY, other])
    np.testing.assert_array_equal(raw.deadline_s, [0.25, 0.5])
    np.testing.assert_array_equal(raw.matrix[:, 0], RawState.from_observation(BUSY).matrix[:, 0])


def test_rows_are_views_that_can_be_assigned() -> None:
    """Assigning a field writes into the matrix; empty() starts idle and reachable."""
    raw = RawState.empty(3)
    raw.edge_backlog_s = np.array([1.0, 2.0, 3.0])
    raw.edge_backlog_s[1] = 5.0
    np.testing.assert_array_equal(raw.edge_backlog_s, [1.0, 5.0, 3.0])
    np.testing.assert_array_equal(raw.edge_reachable, 1.0)
    np.testing.assert_array_equal(raw.cloud_reachable, 1.0)
    assert raw.matrix.sum() == 9.0 + 6.0


def test_the_constructor_takes_every_field_once() -> None:
    """Fields come by name, scalars are repeated, and a missing or unknown name is an error."""
    fields = dict.fromkeys(RAW_FIELDS, 1.0) | {"deadline_s": np.array([0.1, 0.2])}
    raw = RawState(**fields)
    assert raw.matrix.shape == (len(RAW_FIELDS), 2)
    np.testing.assert_array_equal(raw.deadline_s, [0.1, 0.2])
    with pytest.raises(TypeError, match="missing \\['deadline_s'\\], unknown \\['deadline'\\]"):
        RawState(**dict.fromkeys([name for name in RAW_FIELDS if name != "deadline_s"] + ["deadline"], 1.0))
