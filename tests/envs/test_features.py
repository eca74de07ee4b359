"""Features: finite and in their space for whatever is observed, one code path for one and for many."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.catalogue import sample_states
from envs.costs import CostModel, build_cost_model
from envs.features import BOUND, CANDIDATE_FIELDS, MYOPIC_INDEX, SCHEMA, STATE_FIELDS, Encoder, Features, field_table
from envs.predictor import Predictor
from envs.raw_state import RawState
from runtime.messages import Observation
from tests.envs.profiles import make_fixed_scenario, make_observation, make_profile

MODEL = build_cost_model(make_profile(), make_fixed_scenario())
ENCODER = Encoder(MODEL)
STATE = {field.name: index for index, field in enumerate(STATE_FIELDS)}
CANDIDATE = {field.name: index for index, field in enumerate(CANDIDATE_FIELDS)}


def states(num: int, seed: int) -> RawState:
    rng = np.random.default_rng(seed)
    raw = sample_states(MODEL, num, rng)
    for name in ("num_in_flight", "device_num_own", "edge_num_own", "edge_num_waiting"):
        setattr(raw, name, rng.integers(0, 40, num))
    raw.arrival_rate_per_s = rng.uniform(0, 80, num)
    raw.uplink_age_s = rng.exponential(2.0, num)
    return raw


def observation_of(raw: RawState, index: int) -> Observation:
    return raw.to_observation(index, request_id=index, model=MODEL.model, at_s=0.0)


def in_space(model: CostModel, features: Features) -> bool:
    space = Encoder(model).space
    return all(
        space.contains({"state": state, "candidates": candidates, "mask": mask.view(np.int8)})
        for state, candidates, mask in zip(features.state, features.candidates, features.mask, strict=True)
    )


def test_shapes_and_types() -> None:
    """state [N, S], candidates [N, K, F] in float32 and contiguous, mask bool [N, K]; all within the declared space."""
    features = ENCODER.encode(states(20, seed=0))
    assert features.state.shape == (20, len(STATE_FIELDS))
    assert features.state.dtype == np.float32
    assert features.candidates.shape == (20, 134, len(CANDIDATE_FIELDS))
    assert features.candidates.dtype == np.float32
    assert features.mask.shape == (20, 134)
    assert features.mask.dtype == np.bool_
    assert features.state.flags.c_contiguous
    assert features.candidates.flags.c_contiguous
    assert in_space(MODEL, features)


def test_encode_one_is_a_row_of_encode() -> None:
    """A state has the same features alone as among others."""
    raw = states(40, seed=1)
    many = ENCODER.encode(raw)
    for index in range(40):
        one = ENCODER.encode_one(observation_of(raw, index))
        np.testing.assert_allclose(one.state[0], many.state[index], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.candidates[0], many.candidates[index], rtol=1e-4, atol=2e-5)
        np.testing.assert_array_equal(one.mask[0], many.mask[index])


def test_results_belong_to_the_caller() -> None:
    """The next call does not change what an earlier one returned."""
    first = ENCODER.encode(states(5, seed=2))
    kept = {name: array.copy() for name, array in first.as_dict().items()}
    ENCODER.encode(states(5, seed=3))
    for name, array in first.as_dict().items():
        np.testing.assert_array_equal(array, kept[name])


def test_candidates_are_the_predictors_numbers() -> None:
    """Each candidate field is the prediction it names, scaled as documented and clipped."""
    raw = states(50, seed=4)
    features, prediction = ENCODER.encode(raw).candidates, Predictor(MODEL).predict(raw)
    T = MODEL.deadline_s
    slack_s = raw.deadline_s[:, None] - prediction.latency_s
    best = np.where(prediction.allowed, prediction.cost, np.inf).min(axis=1, keepdims=True)
    myopic = np.where(prediction.allowed, prediction.cost - best, BOUND)
    expected = {
        "cost": np.where(prediction.allowed, prediction.cost, BOUND),
        "myopic_cost": myopic,
        "latency": prediction.latency_s / T,
        "wait": prediction.wait_s / T,
        "slack": slack_s / (T / 4),
        "uplink_s": prediction.sending_s / T,
        "device_s": np.array(MODEL.device_s) / T * np.ones((50, 1)),
        "edge_s": np.array(MODEL.edge_s) / T * np.ones((50, 1)),
        "cloud_s": np.array(MODEL.cloud_s) / T * np.ones((50, 1)),
        "error": np.array(MODEL.expected_error) * np.ones((50, 1)),
        "wan_s": np.array(MODEL.wan_bytes) / raw.wan_rate_bytes_per_s[:, None] / T,
    }
    near = np.abs(slack_s) < 1e-5
    for name, values in expected.items():
        got = features[:, :, CANDIDATE[name]]
        np.testing.assert_allclose(got[~near], np.clip(values, -BOUND, BOUND)[~near], rtol=1e-4, atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(features[:, :, CANDIDATE["miss"]][~near], prediction.miss[~near])
    imposed = features[:, :, CANDIDATE["device_imposed"] : CANDIDATE["edge_imposed"] + 1].sum(axis=2)
    small = prediction.imposed_s < T
    np.testing.assert_allclose(imposed[small], prediction.imposed_s[small] / T, rtol=1e-4, atol=1e-5)


def test_state_fields_by_hand() -> None:
    """Each state field is what the table says, for one busy observation."""
    observation = make_observation(
        device__backlog_s=0.03,
        device__num_own=4,
        edge__backlog_s=0.09,
        edge__age_s=0.03,
        edge__num_own=2,
        edge__num_waiting=8,
        cloud__backlog_s=0.01,
        cloud__age_s=0.02,
        cloud__reachable=False,
        uplink__rate_bytes_per_s=1e6 * np.e**2,
        uplink__outstanding_bytes=30_000.0 * np.e**2,
        uplink__delay_s=0.03,
        uplink__age_s=3.0,
        wan__rate_bytes_per_s=1e6,
        wan__outstanding_bytes=60_000.0,
        wan__delay_s=0.06,
        deadline_s=0.15,
        num_in_flight=6,
        arrival_rate_per_s=20.0,
    )
    expected = {
        "device_backlog": 0.1, "edge_backlog": 0.3, "cloud_backlog": 1 / 30, "uplink_queue": 0.1, "wan_queue": 0.2,
        "uplink_delay": 0.1, "wan_delay": 0.2, "uplink_log_rate": 1.0, "wan_log_rate": 0.0, "uplink_age": 1.5,
        "edge_age": 0.1, "cloud_age": 0.2 / 3, "edge_reachable": 1.0, "cloud_reachable": 0.0, "device_num_own": 0.5,
        "edge_num_own": 0.25, "edge_num_waiting": 0.5, "num_in_flight": 0.375, "arrivals": 1.5, "deadline": 0.5,
    }  # fmt: skip
    state = ENCODER.encode_one(observation).state[0]
    assert set(expected) == set(STATE)
    for name, value in expected.items():
        assert state[STATE[name]] == pytest.approx(value, abs=1e-5), name


def test_the_best_allowed_candidate_has_myopic_cost_zero() -> None:
    """Minus the myopic cost is the greedy heuristic: zero at the cheapest allowed candidate, never below, 5 where masked."""
    raw = states(100, seed=5)
    features, prediction = ENCODER.encode(raw), Predictor(MODEL).predict(raw)
    myopic = features.candidates[:, :, MYOPIC_INDEX]
    assert (myopic >= 0).all()
    assert (myopic.min(axis=1) == 0).all()
    chosen = myopic.argmin(axis=1)
    best = np.where(prediction.allowed, prediction.cost, np.inf).min(axis=1)
    np.testing.assert_allclose(prediction.cost[np.arange(100), chosen], best, rtol=1e-5)
    assert myopic[~features.mask] == pytest.approx(BOUND, rel=1e-5)
    assert (~features.mask).any()


@pytest.mark.parametrize(("edge", "cloud"), [(True, True), (True, False), (False, True), (False, False)])
def test_mask_follows_reachability(edge: bool, cloud: bool) -> None:
    """Whatever sends needs the edge, whatever crosses the wan needs the cloud too; device-only needs nothing."""
    mask = ENCODER.encode_one(make_observation(edge__reachable=edge, cloud__reachable=cloud)).mask[0]
    for index, decision in enumerate(MODEL.decisions):
        (p, q), end = decision.cuts, MODEL.exit_ends[decision.exit]
        assert mask[index] == ((edge or p == end) and (cloud or q == end)), decision.label()


def test_without_device_only_everything_can_be_masked() -> None:
    """A catalogue of remote decisions has an empty mask when the edge is gone, and finite features still."""
    remote = MODEL.restrict([d for d in MODEL.decisions if d.cuts[0] < MODEL.exit_ends[d.exit]])
    features = Encoder(remote).encode_one(make_observation(edge__reachable=False))
    assert not features.mask.any()
    assert in_space(remote, features)


reals = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**63)
nodes = {"backlog_s": reals, "num_waiting": counts, "num_own": counts, "age_s": reals, "reachable": st.booleans()}
links = {"rate_bytes_per_s": reals, "delay_s": reals, "outstanding_bytes": reals, "age_s": reals}
observations = st.fixed_dictionaries(
    {
        **{f"{tier}__{name}": values for tier in ("device", "edge", "cloud") for name, values in nodes.items()},
        **{f"{link}__{name}": values for link in ("uplink", "wan") for name, values in links.items()},
        "deadline_s": reals,
        "num_in_flight": counts,
        "arrival_rate_per_s": reals,
    }
)


@settings(max_examples=150)
@given(fields=observations)
def test_any_valid_observation_has_features_in_the_space(fields: dict[str, Any]) -> None:
    """Whatever passes Observation's own validation, to the largest float, gives finite features within bounds."""
    assert in_space(MODEL, ENCODER.encode_one(make_observation(**fields)))


def test_extreme_cost_models_stay_in_the_space() -> None:
    """Huge weights, decisions and a tiny usual deadline are clipped like huge observations."""
    objective = msgspec.structs.replace(MODEL.objective, latency_per_s=1e6, energy_per_joule=1e6)
    model = msgspec.structs.replace(MODEL, objective=objective, deadline_s=1e-4, device_s=(1e3,) * 134, uplink_bytes=(1e9,) * 134)
    assert in_space(model, Encoder(model).encode(states(10, seed=6)))


def test_features_carry_over_to_another_time_scale() -> None:
    """A system that is slower throughout by the same factor looks the same, but for rates, delays in seconds and costs."""
    slow = 3.0
    model = msgspec.structs.replace(
        MODEL,
        **{name: tuple(v * slow for v in getattr(MODEL, name)) for name in ("device_s", "edge_s", "cloud_s")},
        overheads=msgspec.structs.replace(MODEL.overheads, base_s=0.006, uplink_s=0.003, wan_s=0.0045),
        deadline_s=MODEL.deadline_s * slow,
        uplink_down_bytes_per_s=MODEL.uplink_down_bytes_per_s / slow,
        wan_down_bytes_per_s=MODEL.wan_down_bytes_per_s / slow,
    )
    raw = states(30, seed=7)
    slower = RawState.of_matrix(raw.matrix.copy())
    for name in (
        "device_backlog_s",
        "edge_backlog_s",
        "cloud_backlog_s",
        "edge_age_s",
        "cloud_age_s",
        "uplink_delay_s",
        "wan_delay_s",
        "deadline_s",
    ):
        setattr(slower, name, getattr(raw, name) * slow)
    for name in ("uplink_rate_bytes_per_s", "wan_rate_bytes_per_s", "arrival_rate_per_s"):
        setattr(slower, name, getattr(raw, name) / slow)
    fast, other = ENCODER.encode(raw).candidates, Encoder(model).encode(slower).candidates
    for name in ("latency", "wait", "slack", "uplink_s", "wan_s", "device_imposed", "uplink_imposed", "edge_imposed", "device_s", "error"):
        np.testing.assert_allclose(fast[:, :, CANDIDATE[name]], other[:, :, CANDIDATE[name]], rtol=1e-3, atol=1e-4, err_msg=name)


def test_the_schema_is_a_digest_of_the_fields() -> None:
    """Names are unique, the myopic cost is where MYOPIC_INDEX says, and the table lists every field in order."""
    names = [field.name for field in STATE_FIELDS + CANDIDATE_FIELDS]
    assert len(set(names)) == len(names)
    assert CANDIDATE_FIELDS[MYOPIC_INDEX].name == "myopic_cost"
    assert len(SCHEMA) == 16
    assert int(SCHEMA, 16) >= 0
    lines = field_table(CANDIDATE_FIELDS).splitlines()
    assert lines[0].split("|")[1:3] == [" Num ", f" {'Feature'.ljust(len(lines[0].split('|')[2]) - 2)} "]
    assert [line.split("|")[2].strip() for line in lines[2:]] == [field.name for field in CANDIDATE_FIELDS]
