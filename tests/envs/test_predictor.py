"""Predictions: by hand for each architecture, against a plain sequential reference, and by property."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.catalogue import sample_states
from envs.costs import CostModel, build_cost_model
from envs.predictor import Predictor
from envs.raw_state import RawState
from envs.reward import Objective, cost_terms
from runtime.energy import request_energy_joules
from runtime.messages import Breakdown, Decision, Observation, Outcome
from tests.envs.profiles import HEADER_BYTES, make_fixed_scenario, make_observation, make_profile

MODEL = build_cost_model(make_profile(), make_fixed_scenario())
PREDICTOR = Predictor(MODEL)
# The profile's constants, as the arithmetic below uses them.
BASE_S, UPLINK_OVERHEAD_S, WAN_OVERHEAD_S = 0.002, 0.001, 0.0015
RESULT_BYTES = HEADER_BYTES + 40
UPLINK_DOWN, WAN_DOWN = 2_500_000, 12_500_000
ALL_DEVICE_S, HEAD_S = 0.054, 0.001


def predicted(p: int, q: int, observation: Observation, exit: int = 2, variant: str = "fp32") -> dict[str, float]:
    """One decision's prediction, by field name."""
    index = MODEL.find(Decision(model="digits-cnn", variant=variant, cuts=(p, q), exit=exit))
    prediction = PREDICTOR.predict_one(observation)
    return {name: float(getattr(prediction, name)[index]) for name in prediction.__struct_fields__}


# ---------------------------------------------------------------- by hand


def test_device_only_by_hand() -> None:
    """Base, the device's backlog, all stages and the head; the radio stays silent."""
    got = predicted(7, 7, make_observation(device__backlog_s=0.020, edge__backlog_s=9.0, uplink__outstanding_bytes=1e6))
    latency_s = BASE_S + 0.020 + ALL_DEVICE_S + HEAD_S  # 0.077
    joules = (7.3 - 2.56) * (ALL_DEVICE_S + HEAD_S)  # computing above idle
    assert got["latency_s"] == pytest.approx(latency_s) == pytest.approx(0.077)
    assert got["device_s"] == pytest.approx(0.020 + 0.055)
    assert got["energy_joules"] == pytest.approx(joules)
    assert got["miss"] == 0.0
    assert got["cost"] == pytest.approx(4.0 * latency_s + 2.0 * 0.03 + 0.2 * joules)


def test_edge_only_by_hand() -> None:
    """Uplink queue, sending, delay, the edge's backlog less what has passed, compute, and back."""
    observation = make_observation(
        device__backlog_s=5.0,  # not used
        uplink__rate_bytes_per_s=100_000.0,
        uplink__outstanding_bytes=2_000.0,
        uplink__delay_s=0.010,
        edge__backlog_s=0.200,
        edge__age_s=0.030,
    )
    got = predicted(0, 7, observation)
    wait_uplink_s = 2_000 / 100_000  # 0.020
    sending_s = (4096 + HEADER_BYTES) / 100_000  # 0.04396
    at_edge_s = wait_uplink_s + sending_s + 0.010 + UPLINK_OVERHEAD_S  # 0.07496
    wait_edge_s = 0.200 - at_edge_s  # 0.12504; the report's age changes nothing
    edge_s = (ALL_DEVICE_S + HEAD_S) / 6
    back_s = RESULT_BYTES / UPLINK_DOWN + 0.010
    assert got["latency_s"] == pytest.approx(BASE_S + at_edge_s + wait_edge_s + edge_s + back_s)
    assert got["edge_s"] == pytest.approx(wait_edge_s + edge_s)
    assert got["uplink_s"] == pytest.approx(at_edge_s + back_s)
    assert got["wait_s"] == pytest.approx(wait_uplink_s + wait_edge_s)
    assert got["sending_s"] == pytest.approx(sending_s)
    assert got["device_s"] == got["wan_s"] == got["cloud_s"] == 0.0
    slope = 438.39e-3 * 8 / 1e6
    assert got["energy_joules"] == pytest.approx(slope * (4096 + HEADER_BYTES) + 1.28804 * sending_s)


def test_cloud_only_by_hand() -> None:
    """The edge relays without its processor; wan and cloud queues follow; the result crosses both links."""
    observation = make_observation(
        edge__backlog_s=3.0,  # not used: it only relays
        wan__rate_bytes_per_s=1_000_000.0,
        wan__outstanding_bytes=60_000.0,
        wan__delay_s=0.030,
        cloud__backlog_s=0.150,
        cloud__age_s=0.010,
    )
    got = predicted(0, 0, observation)
    size = 4096 + HEADER_BYTES
    at_wan_s = size / 400_000 + 0.010 + UPLINK_OVERHEAD_S  # 0.02199
    wait_wan_s = 60_000 / 1_000_000 - at_wan_s  # 0.03801
    at_cloud_s = at_wan_s + wait_wan_s + size / 1_000_000 + 0.030 + WAN_OVERHEAD_S  # 0.095896
    wait_cloud_s = 0.150 - at_cloud_s  # 0.054104
    cloud_s = (ALL_DEVICE_S + HEAD_S) / 20
    back_s = RESULT_BYTES / WAN_DOWN + 0.030 + RESULT_BYTES / UPLINK_DOWN + 0.010
    assert got["latency_s"] == pytest.approx(BASE_S + at_cloud_s + wait_cloud_s + cloud_s + back_s)
    assert got["edge_s"] == 0.0
    assert got["cloud_s"] == pytest.approx(wait_cloud_s + cloud_s)
    assert got["wait_s"] == pytest.approx(wait_wan_s + wait_cloud_s)


def test_edge_device_split_by_hand() -> None:
    """While the device computes for 30 ms after 20 ms of backlog, the uplink drains and the edge's backlog shrinks."""
    observation = make_observation(device__backlog_s=0.020, uplink__outstanding_bytes=28_000.0, edge__backlog_s=0.100)
    got = predicted(3, 7, observation)
    at_uplink_s = 0.020 + 0.012 + 0.010 + 0.008  # 0.050
    wait_uplink_s = 28_000 / 400_000 - at_uplink_s  # 0.070 - 0.050
    sending_s = (12288 + HEADER_BYTES) / 400_000  # 0.03147
    at_edge_s = at_uplink_s + wait_uplink_s + sending_s + 0.010 + UPLINK_OVERHEAD_S  # 0.11247
    assert at_edge_s > 0.100  # so there is no wait at the edge
    edge_s = (0.009 + 0.006 + 0.005 + 0.004 + HEAD_S) / 6
    back_s = RESULT_BYTES / UPLINK_DOWN + 0.010
    assert got["latency_s"] == pytest.approx(BASE_S + at_edge_s + edge_s + back_s)
    assert got["wait_s"] == pytest.approx(0.020 + wait_uplink_s)


def test_three_tiers_by_hand() -> None:
    """Early exit, int8, device-edge-cloud, idle queues: the plain sum of its pieces."""
    got = predicted(1, 2, make_observation(), exit=0, variant="int8")
    up, wan = 65536 // 4 + HEADER_BYTES, 32768 // 4 + HEADER_BYTES
    latency_s = (
        BASE_S
        + 0.012 / 2
        + (up / 400_000 + 0.010 + UPLINK_OVERHEAD_S)
        + 0.010 / 2 / 6
        + (wan / 2_500_000 + 0.0275 + WAN_OVERHEAD_S)
        + (0.008 + HEAD_S) / 2 / 20
        + (RESULT_BYTES / WAN_DOWN + 0.0275 + RESULT_BYTES / UPLINK_DOWN + 0.010)
    )
    assert got["latency_s"] == pytest.approx(latency_s)
    assert got["wait_s"] == 0.0


def test_a_predicted_miss_is_charged_like_a_failure() -> None:
    """Latency up to the deadline, the miss, a wrong answer for sure; the radio sends to the end."""
    got = predicted(0, 7, make_observation(deadline_s=0.25, uplink__rate_bytes_per_s=1_000.0))
    assert got["latency_s"] > 4.0
    assert got["sending_s"] == pytest.approx(4.396)
    joules = 438.39e-3 * 8 / 1e6 * 4396 + 1.28804 * 4.396
    assert got["miss"] == 1.0
    assert got["energy_joules"] == pytest.approx(joules)
    assert got["cost"] == pytest.approx(4.0 * 0.25 + 1.0 + 2.0 * 1.0 + 0.2 * joules)


def test_imposed_delay_by_hand() -> None:
    """Arrivals during what is left of each used queue, times the seconds taken from it."""
    observation = make_observation(
        arrival_rate_per_s=20.0, device__backlog_s=0.05, edge__backlog_s=0.04, edge__age_s=0.01, uplink__outstanding_bytes=4_000.0
    )
    device_s, edge_s, sending_s = 0.022, (0.008 + 0.009 + 0.006 + 0.005 + 0.004 + 0.001) / 6, (32768 + HEADER_BYTES) / 400_000
    expected_s = 20 * (device_s * (0.05 + device_s) + sending_s * (0.01 + sending_s) + edge_s * (0.04 + edge_s))
    assert predicted(2, 7, observation)["imposed_s"] == pytest.approx(expected_s)


# ---------------------------------------------------------------- against a plain reference


def reference(model: CostModel, index: int, observation: Observation) -> dict[str, float]:
    """One decision's times by walking through the stations."""
    (p, q), end = model.decisions[index].cuts, model.exit_ends[model.decisions[index].exit]
    device, edge, cloud = observation.nodes
    uplink, wan = observation.links
    now_s = wait_s = back_s = 0.0
    if p > 0:
        wait_s += device.backlog_s
        now_s += device.backlog_s + model.device_s[index]
    if p < end:
        queued_s = max(0.0, uplink.outstanding_bytes / uplink.rate_bytes_per_s - now_s)
        wait_s += queued_s
        now_s += queued_s + model.uplink_bytes[index] / uplink.rate_bytes_per_s + uplink.delay_s + model.overheads.uplink_s
        back_s += model.result_bytes / model.uplink_down_bytes_per_s + uplink.delay_s
    if p < q:
        queued_s = max(0.0, edge.backlog_s - now_s)
        wait_s += queued_s
        now_s += queued_s + model.edge_s[index]
    if q < end:
        queued_s = max(0.0, wan.outstanding_bytes / wan.rate_bytes_per_s - now_s)
        wait_s += queued_s
        now_s += queued_s + model.wan_bytes[index] / wan.rate_bytes_per_s + wan.delay_s + model.overheads.wan_s
        queued_s = max(0.0, cloud.backlog_s - now_s)
        wait_s += queued_s
        now_s += queued_s + model.cloud_s[index]
        back_s += model.result_bytes / model.wan_down_bytes_per_s + wan.delay_s
    return {"latency_s": model.overheads.base_s + now_s + back_s, "wait_s": wait_s}


def random_observations(num: int, seed: int) -> list[Observation]:
    raw = sample_states(MODEL, num, np.random.default_rng(seed))
    return [raw.to_observation(i, request_id=i, model=MODEL.model, at_s=0.0) for i in range(num)]


def test_every_decision_agrees_with_the_reference() -> None:
    """The matrix form and the walk through the stations give the same latency and waiting, in any state."""
    observations = random_observations(60, seed=1)
    prediction = PREDICTOR.predict(RawState.from_observations(observations))
    for row, observation in enumerate(observations):
        expected = [reference(MODEL, index, observation) for index in range(MODEL.num_decisions)]
        for name in ("latency_s", "wait_s"):
            np.testing.assert_allclose(getattr(prediction, name)[row], [e[name] for e in expected], rtol=1e-9, atol=1e-12)


def test_costs_are_the_rewards_terms() -> None:
    """For a hit, predicted cost is what envs/reward.py charges an outcome of that latency, plus the expected error."""
    objective = Objective(
        latency_per_s=3.0, miss=0.7, error=1.3, energy_per_joule=0.4, uplink_per_byte=1e-5, leakage=0.2, memory_per_byte=1e-9
    )
    model = msgspec.structs.replace(MODEL, objective=objective)
    observation = make_observation(uplink__rate_bytes_per_s=2e6, deadline_s=5.0)
    prediction = Predictor(model).predict_one(observation)
    memory = tuple(make_profile().memory_bytes.values())
    for index, decision in enumerate(model.decisions):
        latency_s, sending_s = float(prediction.latency_s[index]), float(prediction.sending_s[index])
        joules = request_energy_joules(model.compute_power, model.radio_power, model.device_s[index], model.uplink_bytes[index], sending_s)
        outcome = Outcome(
            request_id=1,
            status="ok",
            decision=decision,
            latency_s=latency_s,
            breakdown=Breakdown(compute_s=(model.device_s[index], model.edge_s[index], model.cloud_s[index])),
            energy_joules=joules,
            link_bytes=(int(model.uplink_bytes[index]), int(model.wan_bytes[index])),
            leakage=model.leakage[index],
            memory_bytes=(memory[0], memory[1], memory[2]),
        )
        expected = sum(cost_terms(objective, outcome).values()) + 1.3 * model.expected_error[index]
        assert prediction.cost[index] == pytest.approx(expected)


def test_parts_tile_the_latency() -> None:
    """Base and the five parts, waiting included, sum to the latency."""
    prediction = PREDICTOR.predict(sample_states(MODEL, 200, np.random.default_rng(2)))
    parts = prediction.device_s + prediction.uplink_s + prediction.edge_s + prediction.wan_s + prediction.cloud_s
    np.testing.assert_allclose(BASE_S + parts, prediction.latency_s, rtol=1e-12)


def test_blocks_and_single_observations_agree() -> None:
    """Many states at once, in several internal blocks, give what one at a time gives."""
    raw = sample_states(MODEL, 1200, np.random.default_rng(3))
    whole = PREDICTOR.predict(raw)
    for index in (0, 488, 489, 1199):
        one = PREDICTOR.predict_one(raw.to_observation(index, request_id=0, model=MODEL.model, at_s=0.0))
        for name in whole.__struct_fields__:
            np.testing.assert_allclose(getattr(whole, name)[index], getattr(one, name), rtol=1e-12, atol=1e-15, err_msg=name)


def test_results_are_not_overwritten_by_the_next_call() -> None:
    """Buffers are reused inside, but what was returned stays."""
    first = PREDICTOR.predict_one(make_observation())
    kept = first.latency_s.copy()
    PREDICTOR.predict_one(make_observation(device__backlog_s=1.0))
    np.testing.assert_array_equal(first.latency_s, kept)


def test_allowed_follows_reachability() -> None:
    """Without the edge only device-only remains; without the cloud, what ends at the edge too."""
    ends = [MODEL.exit_ends[d.exit] for d in MODEL.decisions]
    at_home = [d.cuts[0] == end for d, end in zip(MODEL.decisions, ends, strict=True)]
    near = [d.cuts[1] == end for d, end in zip(MODEL.decisions, ends, strict=True)]
    assert PREDICTOR.predict_one(make_observation()).allowed.all()
    np.testing.assert_array_equal(PREDICTOR.predict_one(make_observation(edge__reachable=False)).allowed, at_home)
    np.testing.assert_array_equal(PREDICTOR.predict_one(make_observation(cloud__reachable=False)).allowed, near)


# ---------------------------------------------------------------- properties

seconds = st.floats(0, 2)
rates = st.floats(1e3, 1e8)
states = st.fixed_dictionaries(
    {
        "device__backlog_s": seconds,
        "edge__backlog_s": seconds,
        "edge__age_s": seconds,
        "cloud__backlog_s": seconds,
        "cloud__age_s": seconds,
        "uplink__rate_bytes_per_s": rates,
        "uplink__outstanding_bytes": st.floats(0, 1e6),
        "uplink__delay_s": st.floats(0, 0.2),
        "wan__rate_bytes_per_s": rates,
        "wan__outstanding_bytes": st.floats(0, 1e6),
        "wan__delay_s": st.floats(0, 0.2),
        "deadline_s": st.floats(0.01, 2),
    }
)
RISING = ("device__backlog_s", "edge__backlog_s", "cloud__backlog_s", "uplink__outstanding_bytes", "uplink__delay_s", "wan__delay_s")
FALLING = ("uplink__rate_bytes_per_s", "wan__rate_bytes_per_s")


@settings(max_examples=60)
@given(state=states, name=st.sampled_from(RISING + FALLING), factor=st.floats(1, 100))
def test_latency_is_monotonic(state: dict[str, Any], name: str, factor: float) -> None:
    """More backlog, outstanding bytes or delay never shortens a prediction; a faster link never lengthens it."""
    less, more = (
        PREDICTOR.predict_one(make_observation(**{**state, name: value})) for value in (state[name], state[name] * factor + 0.001)
    )
    if name in FALLING:
        less, more = more, less
    assert (more.latency_s >= less.latency_s - 1e-9).all()
    assert (more.miss >= less.miss).all() or (np.abs(more.latency_s - state["deadline_s"]) < 1e-6).any()


@settings(max_examples=60)
@given(state=states)
def test_costs_are_bounded_and_waits_are_part_of_the_latency(state: dict[str, Any]) -> None:
    """No cost exceeds that of a failure at the deadline, and waiting is between 0 and the latency."""
    observation = make_observation(**state)
    prediction = PREDICTOR.predict_one(observation)
    worst = 4.0 * observation.deadline_s + 1.0 + 2.0 + 0.2 * prediction.energy_joules
    assert (prediction.cost <= worst + 1e-9).all()
    assert (prediction.cost >= 0).all()
    assert (prediction.wait_s >= 0).all()
    assert (prediction.wait_s <= prediction.latency_s).all()
    np.testing.assert_array_equal(prediction.miss, prediction.latency_s > observation.deadline_s)


def test_extreme_links_stay_finite() -> None:
    """A dead link, an endless queue and a zero deadline give large but finite predictions."""
    prediction = PREDICTOR.predict_one(
        make_observation(
            uplink__rate_bytes_per_s=0.0, wan__rate_bytes_per_s=0.0, uplink__outstanding_bytes=1e300, edge__backlog_s=1e300, deadline_s=0.0
        )
    )
    for name in prediction.__struct_fields__:
        assert np.isfinite(getattr(prediction, name)).all(), name
    assert prediction.miss.all()
