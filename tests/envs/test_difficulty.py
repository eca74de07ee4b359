"""From what is predicted of an input to what decisions are predicted to cost for it."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.heuristics.greedy import Greedy
from envs.catalogue import build_catalogue, sample_states
from envs.costs import CostModel, build_cost_model
from envs.difficulty import error_given
from envs.features import CANDIDATE_FIELDS, DIFFICULTY_SCHEMA, SCHEMA, Encoder, schema_of
from envs.predictor import Predictor
from envs.raw_state import RawState
from runtime.errors import InvalidInput, InvalidProfile
from runtime.messages import Decision
from runtime.profile import read_levels, write_levels
from tests.envs.profiles import (
    DIFFICULTY_TARGETS,
    TECHNIQUES,
    looking,
    make_fixed_scenario,
    make_observation,
    make_profile,
    make_rich_profile,
    with_difficulty,
)

PROFILE = with_difficulty(make_profile())
OFF = build_cost_model(PROFILE, make_fixed_scenario())
ON = build_cost_model(PROFILE, looking(make_fixed_scenario()))
ALL_DEVICE = {exit: Decision(model="digits-cnn", variant="fp32", cuts=(end, end), exit=exit) for exit, end in enumerate(ON.exit_ends)}
TOLD = (0.4, 0.05, 0.2, 0.1)
"""P(wrong) of each of DIFFICULTY_TARGETS."""
SHARES = st.floats(0, 1)


def rich(on: bool) -> CostModel:
    """With codecs and early exits, whose ways err otherwise than their exit does alone."""
    scenario = msgspec.structs.replace(make_fixed_scenario(), techniques=TECHNIQUES)
    return build_cost_model(with_difficulty(make_rich_profile()), looking(scenario) if on else scenario)


# ---------------------------------------------------------------- errors


def test_odds_by_hand() -> None:
    """Average 1/5, odds 1/4; told 1/2, odds 1, four times as many; a way with odds 1/9 then has 4/9, P = 4/13."""
    assert float(error_given(np.array(0.1), np.array(0.2), np.array(0.5))) == pytest.approx(4 / 13)
    assert float(error_given(np.array(0.2), np.array(0.2), np.array(0.7))) == pytest.approx(0.7)


@given(SHARES, SHARES, SHARES)
def test_errors_stay_probabilities(way: float, base: float, told: float) -> None:
    """Whatever is measured and predicted, certainties included; what is told as average changes nothing."""
    assert 0 <= float(error_given(np.array(way), np.array(base), np.array(told))) <= 1 + 1e-12
    assert float(error_given(np.array(way), np.array(base), np.array(base))) == pytest.approx(way, abs=1e-6) or base * (1 - base) < 1e-9


@given(way=st.floats(0.01, 0.99), base=st.floats(0.01, 0.99), told=st.tuples(SHARES, SHARES))
def test_harder_inputs_err_more(way: float, base: float, told: tuple[float, float]) -> None:
    """The error rises with what is told."""
    low, high = (float(error_given(np.array(way), np.array(base), np.array(value))) for value in sorted(told))
    assert low <= high + 1e-12


# ---------------------------------------------------------------- predictions


def test_a_cost_differs_by_what_the_input_changes_of_the_error() -> None:
    """By hand: 2 * (told - average) for a predicted exit that is in time; nothing for one that is not predicted."""
    off = Predictor(OFF).predict_one(make_observation())
    on = Predictor(ON).predict_one(make_observation(difficulty=TOLD))
    look_s = 0.0015
    for exit, told in ((0, TOLD[0]), (1, None), (2, TOLD[1])):
        index = ON.find(ALL_DEVICE[exit])
        change = 2.0 * (told - OFF.expected_error[index]) if told is not None else 0.0
        assert on.cost[index] - off.cost[index] == pytest.approx(change + 4.0 * look_s)
        assert on.latency_s[index] - off.latency_s[index] == pytest.approx(look_s)


def test_a_predicted_miss_is_wrong_whatever_the_input() -> None:
    """What does not come in time is charged as before."""
    late = {"deadline_s": 0.01}
    off, on = Predictor(OFF).predict_one(make_observation(**late)), Predictor(ON).predict_one(make_observation(difficulty=TOLD, **late))
    index = ON.find(ALL_DEVICE[2])
    assert off.miss[index] == on.miss[index] == 1.0
    assert on.cost[index] == pytest.approx(off.cost[index])


def test_without_being_told_the_average_counts() -> None:
    """The same observation without difficulty is predicted as ever; a cost model that knows of none does not look at it."""
    silent, told = make_observation(), make_observation(difficulty=TOLD)
    np.testing.assert_array_equal(Predictor(OFF).predict_one(told).cost, Predictor(OFF).predict_one(silent).cost)
    average = tuple(exit.error for exit in ON.difficulty)
    usual = Predictor(ON).predict_one(make_observation(difficulty=average)).cost
    np.testing.assert_allclose(Predictor(ON).predict_one(silent).cost, usual, rtol=0, atol=1e-12)


def test_other_exits_difficulty_is_refused() -> None:
    """As many as the cost model knows, or none; observations in one batch alike."""
    with pytest.raises(InvalidInput, match="for 2 exits, the cost model knows 4"):
        Predictor(ON).predict_one(make_observation(difficulty=(0.1, 0.2)))
    with pytest.raises(InvalidInput, match=r"\[0, 4\]"):
        RawState.from_observations([make_observation(), make_observation(difficulty=TOLD)])


def test_a_decisions_error_is_the_mean_of_its_ways() -> None:
    """With codecs and early exits the same arithmetic holds way by way, and the features show it."""
    model, off = rich(on=True), rich(on=False)
    raw = sample_states(model, 50, np.random.default_rng(1))
    told = raw.difficulty
    assert told is not None
    targets = [(exit.variant, exit.exit) for exit in model.difficulty]
    expected = np.repeat(np.array(off.expected_error)[:, None], 50, axis=1)
    for way, (index, exit) in enumerate(zip(model.way_decision, model.way_exit, strict=True)):
        key = (model.decisions[index].variant, exit)
        if key in targets:
            at = targets.index(key)
            expected[way] = error_given(expected[way], np.array(model.difficulty[at].error), told[at])
    features = Encoder(model).encode(raw)
    column = [field.name for field in CANDIDATE_FIELDS].index("error")
    np.testing.assert_allclose(features.candidates[:, :, column].T, model.mixture @ expected, atol=1e-5)
    whole, blocks = Predictor(model).predict(raw), [Predictor(model).predict(raw.part(slice(i, i + 1))) for i in range(50)]
    np.testing.assert_allclose(whole.cost, np.concatenate([block.cost for block in blocks]), atol=1e-12)


@settings(max_examples=25)
@given(st.lists(SHARES, min_size=4, max_size=4))
def test_features_stay_within_their_bounds(told: list[float]) -> None:
    """Certain of everything or of nothing."""
    features = Encoder(ON).encode_one(make_observation(difficulty=tuple(told)))
    assert np.isfinite(features.candidates).all()
    assert Encoder(ON).space["candidates"].contains(features.candidates[0])


def test_greedy_chooses_by_the_input() -> None:
    """Where the first exit errs on hard inputs only, easy ones leave there and hard ones go deeper."""
    greedy = Greedy(ON.restrict(list(ALL_DEVICE.values())))
    easy, hard = (make_observation(difficulty=(p, 0.02, p, p)) for p in (0.02, 0.9))
    assert (greedy.decide(easy).exit, greedy.decide(hard).exit) == (0, 2)


def test_the_catalogue_holds_what_inputs_may_ask_for() -> None:
    """Its states tell of easy and hard inputs, finite; with it off nothing changes, and no digest does."""
    raw = sample_states(ON, 500, np.random.default_rng(0))
    assert raw.difficulty is not None
    assert raw.difficulty.shape == (4, 500)
    assert raw.difficulty[0].min() < ON.difficulty[0].error < raw.difficulty[0].max() < 1
    catalogue = build_catalogue(ON, samples=500)
    assert {decision.exit for decision in catalogue.decisions} == {0, 1, 2}
    assert catalogue.regret_mean < 0.02


# ---------------------------------------------------------------- data


def test_cost_models_without_it_are_the_bytes_they_were() -> None:
    """Bundles' digests hold: the field is not written where it is empty, and both forms come back."""
    assert b"difficulty" not in msgspec.json.encode(OFF)
    for model in (OFF, ON):
        assert msgspec.json.decode(msgspec.json.encode(model), type=CostModel) == model
    assert [(exit.variant, exit.exit) for exit in ON.restrict([ALL_DEVICE[0]]).difficulty] == list(DIFFICULTY_TARGETS)


def test_policies_of_either_kind_are_told_apart() -> None:
    """What features mean is part of their digest."""
    assert (schema_of(OFF), schema_of(ON)) == (SCHEMA, DIFFICULTY_SCHEMA)
    assert SCHEMA != DIFFICULTY_SCHEMA


def test_states_keep_what_they_were_told() -> None:
    """From observations to arrays and back."""
    raw = RawState.from_observations([make_observation(difficulty=TOLD), make_observation(difficulty=TOLD[::-1])])
    assert raw.difficulty is not None
    assert raw.difficulty[:, 1].tolist() == list(TOLD[::-1])
    assert raw.to_observation(1, request_id=1, model="digits-cnn", at_s=0.0).difficulty == TOLD[::-1]
    with pytest.raises(ValueError, match="probabilities"):
        make_observation(difficulty=(1.5,))
    with pytest.raises(ValueError, match="probabilities"):
        make_observation(difficulty=(math.nan,))


@given(st.lists(st.lists(st.integers(0, 4095), min_size=3, max_size=3), max_size=4))
def test_profiles_keep_every_level(rows: list[list[int]]) -> None:
    """Three digits an example, there and back."""
    levels = np.array(rows, dtype=np.uint16).reshape(len(rows), 3)
    text = write_levels(levels)
    assert all(len(row) == 9 for row in text)
    np.testing.assert_array_equal(read_levels(text), levels if rows else np.empty((0, 0)))


@pytest.mark.parametrize("rows", [("00g",), ("000", "000000")])
def test_garbage_in_a_profile_is_refused(rows: tuple[str, ...]) -> None:
    """Other characters, other lengths."""
    with pytest.raises(InvalidProfile, match="hexadecimal"):
        read_levels(rows)
