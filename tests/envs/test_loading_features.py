"""The feature of what is not in memory: who sees it, and what it says."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.costs import build_cost_model
from envs.features import CANDIDATE_FIELDS, SCHEMA, Encoder, candidate_fields, schema_of
from envs.loading_features import LOADING_FIELDS
from envs.raw_state import RawState
from envs.scenario import Scenario
from envs.sim import VectorSim
from envs.simulation.events.vector import EventSim
from runtime.errors import InvalidProfile
from runtime.messages import Decision
from tests.envs.profiles import make_observation, make_profile, make_scenario, with_loading
from tests.envs.simulation.events.plays import DEVICE_ONLY, EDGE_ONLY, steady, with_tier

BOTH = ("digits-cnn/fp32", "digits-cnn/int8")
CHOSEN = (DEVICE_ONLY, EDGE_ONLY, Decision(model="digits-cnn", variant="int8", cuts=(2, 5), exit=2))
LATE = with_tier(make_scenario(), "edge", model_memory_bytes=10_000_000)
MODEL = build_cost_model(with_loading(make_profile(LATE)), LATE, CHOSEN)


def cold(device: tuple[str, ...], edge: tuple[str, ...], cloud: tuple[str, ...]) -> list[float]:
    """What is said of each of CHOSEN, in seconds."""
    bare = make_observation()
    loaded = (device, edge, cloud)
    nodes = tuple(msgspec.structs.replace(node, loaded=names) for node, names in zip(bare.nodes, loaded, strict=True))
    features = Encoder(MODEL).encode_one(msgspec.structs.replace(bare, nodes=nodes))
    column: list[float] = (features.candidates[0, :, len(CANDIDATE_FIELDS)] * MODEL.deadline_s).tolist()
    return column


def test_it_is_what_loading_takes_where_the_variant_is_not() -> None:
    """By hand: weights, a session and its stages, on each tier that computes and lacks the variant; int8 takes half."""
    assert cold(BOTH, BOTH, BOTH) == pytest.approx([0.0, 0.0, 0.0])
    assert cold(BOTH, BOTH[1:], BOTH) == pytest.approx([0.0, 0.085, 0.0])
    assert cold((), (), ()) == pytest.approx([0.085, 0.085, (0.060 + 0.065 + 0.060) / 2])


def test_it_is_there_only_where_nodes_load_late() -> None:
    """Elsewhere features, and so bundles, are what they were; a bundle for one is no bundle for the other."""
    plain = build_cost_model(make_profile(), make_scenario(), CHOSEN)
    assert candidate_fields(plain) == CANDIDATE_FIELDS
    assert candidate_fields(MODEL) == (*CANDIDATE_FIELDS, *LOADING_FIELDS)
    assert schema_of(plain) == SCHEMA != schema_of(MODEL)
    assert b"load_s" not in msgspec.json.encode(plain)
    assert Encoder(MODEL).space["candidates"].shape == (3, len(CANDIDATE_FIELDS) + 1)


def test_it_stays_with_its_decisions() -> None:
    """Fewer decisions, in another order, through JSON and back."""
    fewer = MODEL.restrict(CHOSEN[:0:-1])
    assert fewer.load_s == MODEL.load_s[:0:-1]
    assert msgspec.json.decode(msgspec.json.encode(fewer), type=type(fewer)) == fewer


def test_where_nothing_is_told_everything_is_loaded() -> None:
    """As in the vectorised simulator; the other says what is."""
    scenario: Scenario = with_tier(steady(5.0, num_requests=30), "edge", model_memory_bytes=10_000_000)
    profile = with_loading(make_profile(scenario))
    vectorised, by_events = VectorSim(scenario, profile, 2, decisions=CHOSEN), EventSim(scenario, profile, 2, decisions=CHOSEN)
    encoder = Encoder(by_events.cost_model)
    assert not encoder.encode(vectorised.reset([1, 2])).candidates[:, :, -1].any()
    first = encoder.encode(by_events.reset([1, 2])).candidates[:, :, -1]
    np.testing.assert_allclose(first, np.tile([0.0, 0.085, 0.0325], (2, 1)) / by_events.cost_model.deadline_s, rtol=1e-6)
    for _ in range(20):
        step = by_events.step(np.array([1, 1]))
    later = encoder.encode(step.raw).candidates[:, :, -1]
    assert (later[:, 1] == 0).all()
    assert (later[:, 2] > 0).all()


def test_states_keep_what_is_loaded() -> None:
    """Parts, and back to the typed struct."""
    observation = make_observation()
    nodes = tuple(msgspec.structs.replace(node, loaded=BOTH[:index]) for index, node in enumerate(observation.nodes))
    observation = msgspec.structs.replace(observation, nodes=nodes)
    raw = RawState.from_observations([make_observation(), observation])
    assert RawState.part(raw, slice(1, 2)).loaded == [((), BOTH[:1], BOTH)]
    again = raw.to_observation(1, request_id=1, model="digits-cnn", at_s=0.0)
    assert [node.loaded for node in again.nodes] == [(), BOTH[:1], BOTH]


def test_a_profile_without_it_is_refused() -> None:
    """Whoever would decide without knowing is told to measure."""
    with pytest.raises(InvalidProfile, match="measure it again"):
        build_cost_model(make_profile(LATE), LATE, CHOSEN)
