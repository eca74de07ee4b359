"""The relevance model learns, keeps its miss target, and survives its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InvalidInput, InvalidPredictor
from runtime.inference.difficulty import DifficultyCard
from runtime.inference.filter import calibrate_relevance, fit_relevance, load_relevance, relevance_features, save_relevance
from runtime.inference.predictor_file import save_predictor


def frames(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Thumbnails of a noisy scene, a third of them with a bright square; their features and whether the square is there."""
    rng = np.random.default_rng(seed)
    background = rng.uniform(60, 120, (16, 16))
    relevant = rng.random(num) < 1 / 3
    features = []
    for shown in relevant:
        small = background + rng.normal(0, 3, background.shape)
        if shown:
            row, column = rng.integers(0, 12, 2)
            small[row : row + 4, column : column + 4] += rng.uniform(10, 60)
        features.append(relevance_features(small.astype(np.float32), background))
    return np.stack(features), relevant


def test_features_by_hand() -> None:
    """Sixteen of 64 cells changed by 32 on a flat background of 100."""
    background = np.full((8, 8), 100.0)
    small = background.copy()
    small[:4, :4] += 32
    contrast, edges, entropy, mean_change, blocked_change, changed = relevance_features(small, background)
    assert (mean_change, blocked_change, changed) == (8.0, 32.0, 0.25)
    assert edges == pytest.approx(8 / 112)
    assert contrast == pytest.approx(32 * np.sqrt(0.25 * 0.75))
    assert entropy == pytest.approx(0.25 * 2 + 0.75 * np.log2(4 / 3))


def test_a_calibrated_model_drops_much_and_misses_little() -> None:
    """Fitted, calibrated and judged on three different parts."""
    model = calibrate_relevance(fit_relevance(*frames(300, 0)), *frames(900, 1), 0.05)
    assert model.card.miss_upper <= 0.05
    features, relevant = frames(900, 2)
    dropped = np.array([model.is_irrelevant(row) for row in features])
    assert (dropped & relevant).sum() / relevant.sum() <= 0.05
    assert dropped.sum() / (~relevant).sum() > 0.8


def test_without_evidence_nothing_is_dropped() -> None:
    """A fitted model alone drops nothing; nor does one calibrated on few relevant frames, or for a target of zero."""
    features, relevant = frames(100, 0)
    fitted = fit_relevance(features, relevant)
    few = calibrate_relevance(fitted, *frames(60, 1), 0.02)
    never = calibrate_relevance(fitted, *frames(600, 1), 0.0)
    for model in (fitted, few, never):
        assert not any(model.is_irrelevant(row) for row in features)


def test_calibration_needs_as_many_labels_as_frames() -> None:
    """Nothing is paired by chance."""
    features, relevant = frames(20, 0)
    with pytest.raises(InvalidInput, match="as many labels"):
        calibrate_relevance(fit_relevance(features, relevant), features, relevant[1:], 0.1)


def test_files_give_back_the_model(tmp_path: Path) -> None:
    """The same verdicts; another kind of predictor's file is refused."""
    features, relevant = frames(300, 0)
    model = calibrate_relevance(fit_relevance(features, relevant), *frames(600, 1), 0.1)
    save_relevance(model, tmp_path / "r")
    loaded = load_relevance(tmp_path / "r")
    assert loaded.card == model.card
    assert [loaded.is_irrelevant(row) for row in features] == [model.is_irrelevant(row) for row in features]
    save_predictor(tmp_path / "d", DifficultyCard(model="m", version="1"), (model.model,))
    with pytest.raises(InvalidPredictor):
        load_relevance(tmp_path / "d")
    path = tmp_path / "r"
    path.write_bytes(path.read_bytes().replace(b'threshold\\":0.', b'threshold\\":7.'))
    with pytest.raises(InvalidPredictor, match=r"lies in 0\.\.1"):
        load_relevance(path)
