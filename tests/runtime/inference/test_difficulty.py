"""Difficulty is learnt where there is something to learn, and said honestly where not."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from runtime.errors import InvalidInput, InvalidPredictor, InvalidTensor
from runtime.inference.difficulty import (
    DifficultyCard,
    choose_exit,
    difficulty_features,
    fit_difficulty,
    load_difficulty,
    save_difficulty,
)
from runtime.inference.scores import brier, roc_auc
from runtime.models.examples import load_examples, load_judgement

CARD = DifficultyCard(model="m", version="1", variant="fp32")


def made_up(num: int, seed: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of which the first makes the early exit err with log odds slope * x - 1; the last exit is always right."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num, 71))
    wrong = rng.random(num) < 1 / (1 + np.exp(1 - slope * features[:, 0]))
    return features, np.stack([~wrong, np.ones(num, dtype=bool)]).astype(np.uint8)


def test_what_can_be_learnt_is_learnt_and_calibrated() -> None:
    """On fresh samples: ranks them well, beats the base rate, and among those it gives 50..70 % as many err."""
    predictor = fit_difficulty(*made_up(1500, 0, 3.0), CARD)
    features, correct = made_up(4000, 1, 3.0)
    wrong, probability = correct[0] == 0, predictor.from_features(features)[:, 0]
    assert (roc_auc(probability, wrong) or 0) > 0.85
    assert brier(probability, wrong) < 0.8 * wrong.mean() * (1 - wrong.mean())
    middle = (probability > 0.5) & (probability < 0.7)
    assert wrong[middle].mean() == pytest.approx(0.6, abs=0.1)


def test_what_is_chance_stays_the_base_rate() -> None:
    """No feature says anything: predictions stay within a few points of the rate, whatever the seed."""
    for seed in range(3):
        features, correct = made_up(600, seed, 0.0)
        probability = fit_difficulty(features, correct, CARD, seed=seed).from_features(features)[:, 0]
        assert np.abs(probability - (correct[0] == 0).mean()).max() < 0.15


def test_pictures_that_nobody_gets_are_not_hard_for_the_early_exit() -> None:
    """Where the last exit errs too, going deeper does not help: no error is counted."""
    features = np.random.default_rng(0).normal(size=(50, 71))
    predictor = fit_difficulty(features, np.zeros((3, 50), dtype=np.uint8), CARD)
    assert predictor.card.num_errors == (0, 0)
    assert predictor.card.num_samples == 50
    assert (predictor.from_features(features) < 0.05).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1))
def test_the_first_exit_that_is_good_enough_is_chosen(probabilities: list[float], bound: float) -> None:
    """None before it is good enough, and the last where none is."""
    exit = choose_exit(np.array(probabilities), bound)
    assert all(p > bound for p in probabilities[:exit])
    assert exit == len(probabilities) or probabilities[exit] <= bound


def test_files_give_back_the_predictor(tmp_path: Path) -> None:
    """Bit for bit, card and all."""
    predictor = fit_difficulty(*made_up(200, 0, 3.0), CARD)
    save_difficulty(predictor, tmp_path / "d.safetensors")
    loaded = load_difficulty(tmp_path / "d.safetensors")
    features = made_up(50, 2, 1.0)[0]
    assert loaded.card == predictor.card
    np.testing.assert_array_equal(loaded.from_features(features), predictor.from_features(features))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved predictor."""
    path = tmp_path_factory.mktemp("predictor") / "whole"
    save_difficulty(fit_difficulty(*made_up(20, 0, 1.0), CARD), path)
    return path


@settings(deadline=None)
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
    predictor = fit_difficulty(*made_up(20, 0, 1.0), CARD)
    save_difficulty(msgspec.structs.replace(predictor, card=msgspec.structs.replace(CARD, features=("colour",))), path)
    with pytest.raises(InvalidPredictor, match="other features"):
        load_difficulty(path)
    card = {"drlctl": msgspec.json.encode(CARD).decode()}
    good = {name: np.ones((1, 71)) for name in ("mean", "scale", "weights")} | {"bias": np.ones(1)}
    for name, value in [("mean", np.ones((1, 3))), ("bias", np.ones(1, dtype=np.float32)), ("scale", np.zeros((1, 71))), ("x", np.ones(1))]:
        path.write_bytes(save(good | {name: value}, metadata=card))
        with pytest.raises(InvalidPredictor, match=str(path)):
            load_difficulty(path)
    path.write_bytes(save(good, metadata=card))
    with pytest.raises(InvalidPredictor, match="1 models for 0 early exits"):
        load_difficulty(path)
    header = json.dumps({"__metadata__": {"drlctl": "[]"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InvalidPredictor, match="not a predictor"):
        load_difficulty(path)
    with pytest.raises(InvalidPredictor, match="cannot read"):
        load_difficulty(tmp_path / "nothing")


def test_impossible_inputs_are_refused() -> None:
    """One exit only, other lengths, too few samples, a picture that is too small or none."""
    features = np.zeros((20, 71))
    for correct in (np.zeros((1, 20)), np.zeros((2, 19))):
        with pytest.raises(InvalidInput, match="two exits"):
            fit_difficulty(features, correct, CARD)
    with pytest.raises(InvalidInput, match="8x8 pixels"):
        difficulty_features(np.zeros((1, 1, 7, 9), dtype=np.uint8))
    with pytest.raises(InvalidTensor):
        difficulty_features(np.zeros((64, 64), dtype=np.uint8))


def test_hard_digits_are_told_from_easy_ones(digits_model: Path) -> None:
    """Real scans: fitted on validation, the first exit's errors on the test split are ranked better than by chance.

    Exit 1 errs on a handful of pictures only; nothing is claimed of it but that it does no worse than the base rate.
    """
    features = {
        split: np.stack([difficulty_features(image) for image in load_examples(digits_model, split).images])
        for split in ("validation", "test")
    }
    predictor = fit_difficulty(features["validation"], load_judgement(digits_model, "validation", "fp32").correct, CARD)
    correct = load_judgement(digits_model, "test", "fp32").correct
    probability = predictor.from_features(features["test"])
    wrong = (correct[:-1] == 0) & (correct[-1] == 1)
    assert (roc_auc(probability[:, 0], wrong[0]) or 0) > 0.6
    for exit, num_errors in enumerate(predictor.card.num_errors):
        constant = num_errors / predictor.card.num_samples
        assert brier(probability[:, exit], wrong[exit]) < 1.05 * brier(np.full(len(wrong[exit]), constant), wrong[exit])
