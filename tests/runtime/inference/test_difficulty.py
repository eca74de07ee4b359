"""Difficulty is learnt where there is something to learn, and said honestly where not."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save

from runtime.errors import InvalidInput, InvalidPredictor, InvalidTensor
from runtime.inference.difficulty import (
    DifficultyCard,
    DifficultyPredictor,
    ExitDifficulty,
    difficulty_features,
    from_levels,
    load_difficulty,
    save_difficulty,
    to_levels,
)
from runtime.inference.difficulty_fit import MIN_ERRORS, fit_exit
from runtime.inference.logistic import Logistic
from runtime.inference.scores import brier, roc_auc

CARD = DifficultyCard(model="m", version="1", exits=(ExitDifficulty(variant="fp32", exit=0, predicted=True),))


def made_up(num: int, seed: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of which the first makes the exit err with log odds slope * x - 1."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num, 71))
    return features, rng.random(num) < 1 / (1 + np.exp(1 - slope * features[:, 0]))


def made_up_predictor(num: int, seed: int, slope: float, card: DifficultyCard = CARD) -> DifficultyPredictor:
    return DifficultyPredictor(card=card, models=(fit_exit(*made_up(num, seed, slope)).model,))


def test_what_can_be_learnt_is_learnt_and_calibrated() -> None:
    """On fresh samples: ranks them well, beats the base rate, and among those it gives 50..70 % as many err."""
    fitted = fit_exit(*made_up(1500, 0, 3.0))
    features, wrong = made_up(4000, 1, 3.0)
    probability = fitted.model.probability(features)
    assert fitted.predicted
    assert (roc_auc(probability, wrong) or 0) > 0.85
    assert brier(probability, wrong) < 0.8 * wrong.mean() * (1 - wrong.mean())
    middle = (probability > 0.5) & (probability < 0.7)
    assert wrong[middle].mean() == pytest.approx(0.6, abs=0.1)


def test_what_was_held_out_is_judged_as_fresh_samples_are() -> None:
    """Predictions of the fitting samples by models without them are no better than of new ones: nobody learns to overtrust them."""
    features, wrong = made_up(600, 0, 1.5)
    fresh, fresh_wrong = made_up(4000, 1, 1.5)
    fitted = fit_exit(features, wrong)
    assert brier(fitted.held_out, wrong) == pytest.approx(brier(fitted.model.probability(fresh), fresh_wrong), abs=0.02)
    assert brier(fitted.model.probability(features), wrong) < brier(fitted.held_out, wrong)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_chance_is_not_predicted(seed: int) -> None:
    """No feature says anything: the exit says so, and its model is the base rate (as Platt smooths it) for every picture."""
    features, wrong = made_up(600, seed, 0.0)
    fitted = fit_exit(features, wrong, seed=seed)
    assert not fitted.predicted
    np.testing.assert_allclose(fitted.model.probability(features), wrong.mean(), atol=0.01)
    np.testing.assert_allclose(fitted.held_out, wrong.mean(), atol=0.01)
    assert fitted.base_log_odds == fitted.model.bias


def test_a_handful_of_errors_teaches_nothing() -> None:
    """Nine errors are not enough to claim skill, however well a feature tells them; nor is none at all."""
    features = np.random.default_rng(0).normal(size=(300, 71))
    for num_errors in (0, MIN_ERRORS - 1):
        wrong = np.argsort(np.argsort(-features[:, 0])) < num_errors
        assert not fit_exit(features, wrong).predicted


def test_only_exits_in_use_are_told_on_the_grid() -> None:
    """By hand: log odds 0 are one half, 2047.5 of 4095, rounded to the even 2048; the other exit is left out."""
    flat = Logistic(mean=np.zeros(71), scale=np.ones(71), weights=np.zeros(71), bias=0.0)
    exits = (ExitDifficulty(variant="a", exit=0), ExitDifficulty(variant="a", exit=1, predicted=True))
    predictor = DifficultyPredictor(card=msgspec.structs.replace(CARD, exits=exits), models=(flat, flat))
    assert predictor.targets == (("a", 1),)
    assert predictor.predict(np.zeros((1, 1, 8, 8), dtype=np.uint8)) == (2048 / 4095,)
    nothing = DifficultyPredictor(card=msgspec.structs.replace(CARD, exits=exits[:1]), models=(flat,))
    assert nothing.predict(np.zeros((1, 1, 8, 8), dtype=np.uint8)) == ()


@given(arrays(np.uint8, st.tuples(st.just(1), st.sampled_from((1, 3)), st.integers(8, 20), st.integers(8, 20))))
def test_any_picture_has_finite_features_and_a_probability(picture: np.ndarray) -> None:
    """Black, white, noise: 71 finite numbers, and P(wrong) in 0..1."""
    assert np.isfinite(difficulty_features(picture)).all()
    assert difficulty_features(picture).shape == (71,)
    (probability,) = PREDICTOR.predict(picture)
    assert 0 <= probability <= 1


@given(st.lists(st.floats(0, 1), max_size=20))
def test_the_grid_is_fine_enough(probabilities: list[float]) -> None:
    """Rounding moves no probability by more than half a step."""
    values = np.array(probabilities)
    assert (np.abs(from_levels(to_levels(values)) - values) <= 0.5 / 4095 + 1e-12).all()


PREDICTOR = made_up_predictor(200, 0, 3.0)


def test_files_give_back_the_predictor(tmp_path: Path) -> None:
    """Bit for bit, card and all."""
    save_difficulty(PREDICTOR, tmp_path / "d.safetensors")
    loaded = load_difficulty(tmp_path / "d.safetensors")
    features = made_up(50, 2, 1.0)[0]
    assert loaded.card == PREDICTOR.card
    np.testing.assert_array_equal(loaded.from_features(features), PREDICTOR.from_features(features))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved predictor."""
    path = tmp_path_factory.mktemp("predictor") / "whole"
    save_difficulty(PREDICTOR, path)
    return path


@given(noise=st.binary(max_size=200), place=st.integers(0, 3000))
def test_damaged_files_are_refused(file: Path, noise: bytes, place: int) -> None:
    """Truncated, overwritten or foreign bytes: the predictor loads as something valid, or is refused with its one error."""
    data, damaged = file.read_bytes(), file.with_name("damaged")
    for content in (noise, data[:place], data[:place] + noise + data[place + len(noise) :]):
        damaged.write_bytes(content)
        try:
            loaded = load_difficulty(damaged)
        except InvalidPredictor:
            continue
        assert all(np.isfinite(model.weights).all() for model in loaded.models)


def test_files_of_other_features_are_refused(tmp_path: Path) -> None:
    """By name, by number, by dtype, by scale; and one that is not there."""
    path = tmp_path / "d"
    save_difficulty(msgspec.structs.replace(PREDICTOR, card=msgspec.structs.replace(CARD, features=("colour",))), path)
    with pytest.raises(InvalidPredictor, match="other features"):
        load_difficulty(path)
    card = {"drlctl": msgspec.json.encode(msgspec.structs.replace(CARD, exits=())).decode()}
    good = {name: np.ones((1, 71)) for name in ("mean", "scale", "weights")} | {"bias": np.ones(1)}
    for name, value in [("mean", np.ones((1, 3))), ("bias", np.ones(1, dtype=np.float32)), ("scale", np.zeros((1, 71))), ("x", np.ones(1))]:
        path.write_bytes(save(good | {name: value}, metadata=card))
        with pytest.raises(InvalidPredictor, match=str(path)):
            load_difficulty(path)
    path.write_bytes(save(good, metadata=card))
    with pytest.raises(InvalidPredictor, match="1 models for 0 exits"):
        load_difficulty(path)
    header = json.dumps({"__metadata__": {"drlctl": "[]"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InvalidPredictor, match="not a predictor"):
        load_difficulty(path)
    with pytest.raises(InvalidPredictor, match="cannot read"):
        load_difficulty(tmp_path / "nothing")


def test_impossible_inputs_are_refused() -> None:
    """Other lengths, too few samples, a picture that is too small or none."""
    features = np.zeros((20, 71))
    for samples, wrong in ((features, np.zeros(19, dtype=bool)), (features[:4], np.zeros(4, dtype=bool))):
        with pytest.raises(InvalidInput, match="5 samples"):
            fit_exit(samples, wrong)
    with pytest.raises(InvalidInput, match="8x8 pixels"):
        difficulty_features(np.zeros((1, 1, 7, 9), dtype=np.uint8))
    with pytest.raises(InvalidTensor):
        difficulty_features(np.zeros((64, 64), dtype=np.uint8))
