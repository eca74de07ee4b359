"""How likely an early exit errs on a picture, guessed before anything runs, from what is cheap to see.

A picture is *hard* for an exit that is wrong where the last one is right.  One ridge logistic regression per early
exit learns that from labelled pictures the model was not trained on; how strong the ridge is, cross-validation says,
up to infinite: then nothing was learnt and the prediction is the base rate.
Source: the idea of a premodel that selects per input, Taylor et al., "Adaptive deep learning model selection on
embedded systems", LCTES 2018, with errors of exits in place of a nearest-neighbour choice among models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from runtime.errors import InvalidInput, InvalidPredictor
from runtime.inference.features import PICTURE_FEATURES, picture_features
from runtime.inference.logistic import Logistic, fit_logistic, log_loss
from runtime.inference.pictures import block_means, grey
from runtime.inference.predictor_file import load_predictor, save_predictor

LAYOUT_SIDE = 8
"""Besides the named features a picture counts as this many block means a side: what is drawn matters, not only how."""
RIDGES = (float("inf"), 1000.0, 100.0, 10.0, 1.0)
"""Candidates, the constant first: a weaker ridge must be strictly better to be taken."""
NUM_FOLDS = 5


class DifficultyCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a fitted predictor is."""

    model: str
    version: str
    """Content version of the model whose exits it is about."""
    variant: str
    features: tuple[str, ...] = tuple(PICTURE_FEATURES)
    layout_side: int = LAYOUT_SIDE
    num_samples: int = 0
    num_errors: tuple[int, ...] = ()
    """Per early exit: samples where it was wrong and the last exit right.  A handful cannot teach much."""


class DifficultyPredictor(msgspec.Struct, frozen=True, kw_only=True):
    """One model per early exit."""

    card: DifficultyCard
    models: tuple[Logistic, ...]

    def error_probabilities(self, picture: np.ndarray) -> np.ndarray:
        """P(early exit e is wrong where the last is right | picture), float64 [num_exits - 1].  Raises InvalidTensor."""
        return self.from_features(difficulty_features(picture))

    def from_features(self, features: np.ndarray) -> np.ndarray:
        """The same from features [..., F]: float64 [..., num_exits - 1]."""
        return np.stack([model.probability(features) for model in self.models], axis=-1)


def difficulty_features(picture: np.ndarray) -> np.ndarray:
    """Named features, then block means: float64 [F].  The picture is [..., C, H, W] of at least 8x8 pixels, values 0..255.

    Raises InvalidTensor for what is no picture, InvalidInput for one that is too small.
    """
    shades = grey(picture)
    if min(shades.shape) < LAYOUT_SIDE:
        raise InvalidInput(f"difficulty is told from {LAYOUT_SIDE}x{LAYOUT_SIDE} pixels up, got {list(shades.shape)}")
    return np.concatenate([picture_features(shades), block_means(shades, LAYOUT_SIDE, LAYOUT_SIDE).reshape(-1)])


def choose_exit(error_probabilities: np.ndarray, max_error_probability: float) -> int:
    """The first exit whose predicted error is small enough; the last one when no early exit is."""
    enough = np.flatnonzero(error_probabilities <= max_error_probability)
    return int(enough[0]) if len(enough) else len(error_probabilities)


def fit_difficulty(features: np.ndarray, correct: np.ndarray, card: DifficultyCard, *, seed: int = 0) -> DifficultyPredictor:
    """Learn from features [N, F] and correct uint8 [num_exits, N] of pictures that the model was not trained on.

    `seed` shuffles the folds.  Raises InvalidInput when shapes do not fit, there are fewer samples than folds, or
    there is no early exit.
    """
    if len(correct) < 2 or correct.shape[1:] != (len(features),) or len(features) < NUM_FOLDS:
        raise InvalidInput(
            f"difficulty needs two exits or more and {NUM_FOLDS} samples or more, got {correct.shape} for {len(features)} samples"
        )
    errors = (correct[:-1] == 0) & (correct[-1] == 1)
    models = tuple(_fit_exit(features, wrong, np.random.default_rng((seed, exit))) for exit, wrong in enumerate(errors))
    counts = tuple(int(wrong.sum()) for wrong in errors)
    return DifficultyPredictor(card=msgspec.structs.replace(card, num_samples=len(features), num_errors=counts), models=models)


def save_difficulty(predictor: DifficultyPredictor, path: Path) -> None:
    """Write it as data.  Raises OSError with the old file intact."""
    save_predictor(path, predictor.card, predictor.models)


def load_difficulty(path: Path) -> DifficultyPredictor:
    """Read it.  Raises InvalidPredictor when the file is corrupt or of other features than this version computes."""
    card, models = load_predictor(path, DifficultyCard, len(PICTURE_FEATURES) + LAYOUT_SIDE**2)
    if (card.features, card.layout_side) != (tuple(PICTURE_FEATURES), LAYOUT_SIDE):
        raise InvalidPredictor(f"{path} was fitted on other features: {card.features}, layout {card.layout_side}; fit it again")
    if len(models) != len(card.num_errors):
        raise InvalidPredictor(f"{path} holds {len(models)} models for {len(card.num_errors)} early exits; fit it again")
    return DifficultyPredictor(card=card, models=models)


def _fit_exit(features: np.ndarray, wrong: np.ndarray, rng: np.random.Generator) -> Logistic:
    """Ridge by cross-validation, then calibrated on the held-out log odds.  Source: Platt 1999, section 2.2."""
    folds = _stratified_folds(wrong, rng)
    held_out = {l2: _held_out_log_odds(features, wrong, folds, l2) for l2 in RIDGES}
    l2 = min(RIDGES, key=lambda candidate: log_loss(held_out[candidate], wrong))
    model = fit_logistic(features, wrong, l2)
    calibration = fit_logistic(held_out[l2][:, None], wrong, 1.0)
    slope = float(calibration.weights[0] / calibration.scale[0])
    if l2 == RIDGES[0] or slope <= 0:
        return fit_logistic(features, wrong, RIDGES[0])
    return model.rescaled(slope, calibration.bias - slope * float(calibration.mean[0]))


def _held_out_log_odds(features: np.ndarray, wrong: np.ndarray, folds: Sequence[np.ndarray], l2: float) -> np.ndarray:
    """Each sample's log odds by the model that was fitted without its fold: float64 [N]."""
    log_odds = np.empty(len(wrong))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(wrong)), fold)
        log_odds[fold] = fit_logistic(features[rest], wrong[rest], l2).log_odds(features[fold])
    return log_odds


def _stratified_folds(wrong: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices in NUM_FOLDS parts, errors spread evenly."""
    order = np.concatenate([rng.permutation(np.flatnonzero(wrong)), rng.permutation(np.flatnonzero(~wrong))])
    return [order[start::NUM_FOLDS] for start in range(NUM_FOLDS)]
