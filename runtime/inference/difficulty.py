"""How likely each exit errs on a picture, guessed before anything runs, from what is cheap to see.

One ridge logistic regression per variant and exit (runtime/inference/difficulty_fit.py).  An exit whose errors were not
told better than by the base rate on held-out pictures is not predicted at all: policies then go by its measured average.
Source: the idea of a premodel that selects per input, Taylor et al., "Adaptive deep learning model selection on
embedded systems", LCTES 2018, with errors of exits in place of a nearest-neighbour choice among models.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from runtime.errors import InvalidInput, InvalidPredictor
from runtime.inference.features import PICTURE_FEATURES, picture_features
from runtime.inference.logistic import Logistic, sigmoid
from runtime.inference.pictures import block_means, grey
from runtime.inference.predictor_file import load_predictor, save_predictor

LAYOUT_SIDE = 8
"""Besides the named features a picture counts as this many block means a side: what is drawn matters, not only how."""
NUM_LEVELS = 4095
"""Predictions are whole multiples of one part in so many, three hexadecimal digits: the same on a device and in a profile."""


class ExitDifficulty(msgspec.Struct, frozen=True, kw_only=True):
    """How well one exit's errors are told; losses are means of -ln P of what happened, on pictures of the test split."""

    variant: str
    exit: int
    num_errors: int = 0
    """Of the samples that the predictor was fitted on.  A handful cannot teach much."""
    predicted: bool = False
    """Whether it beat the base rate on held-out samples of the fitting split, and so is in use."""
    auc: float | None = None
    """Chance that a picture it gets wrong is called harder than one it gets right.  None: only one of the two was seen."""
    log_loss: float = 0.0
    """Of what is predicted."""
    base_log_loss: float = 0.0
    """Of always saying the fitting split's base rate."""


class DifficultyCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a fitted predictor is."""

    model: str
    version: str
    """Content version of the model whose exits it is about."""
    features: tuple[str, ...] = tuple(PICTURE_FEATURES)
    layout_side: int = LAYOUT_SIDE
    num_samples: int = 0
    exits: tuple[ExitDifficulty, ...] = ()
    """Every exit of every variant, in the manifest's order."""


class DifficultyPredictor(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One model per exit of the card, those that are not in use included."""

    card: DifficultyCard
    models: tuple[Logistic, ...]

    @property
    def targets(self) -> tuple[tuple[str, int], ...]:
        """(variant, exit) that are predicted, in the order of the predictions."""
        return tuple((exit.variant, exit.exit) for exit in self.card.exits if exit.predicted)

    def predict(self, picture: np.ndarray) -> tuple[float, ...]:
        """P(wrong answer | picture) of each target, on the grid of `to_levels`.  Raises InvalidTensor, InvalidInput."""
        return tuple(from_levels(to_levels(self.from_features(difficulty_features(picture)))).tolist())

    def from_features(self, features: np.ndarray) -> np.ndarray:
        """The same from features [..., F], not rounded: float64 [..., targets]."""
        weights, bias = self._folded
        return sigmoid(features @ weights + bias)

    @cached_property
    def _folded(self) -> tuple[np.ndarray, np.ndarray]:
        """[F, targets] and [targets]: log odds as one product, which takes a device a fraction of one model after another."""
        used = [model for model, exit in zip(self.models, self.card.exits, strict=True) if exit.predicted]
        weights = np.array([model.weights / model.scale for model in used]).reshape(len(used), -1 if used else len(self.models[0].mean))
        return weights.T.copy(), np.array([model.bias - (model.mean / model.scale) @ model.weights for model in used])


def difficulty_features(picture: np.ndarray) -> np.ndarray:
    """Named features, then block means: float64 [F].  The picture is [..., C, H, W] of at least 8x8 pixels, values 0..255.

    Raises InvalidTensor for what is no picture, InvalidInput for one that is too small.
    """
    shades = grey(picture)
    if min(shades.shape) < LAYOUT_SIDE:
        raise InvalidInput(f"difficulty is told from {LAYOUT_SIDE}x{LAYOUT_SIDE} pixels up, got {list(shades.shape)}")
    return np.concatenate([picture_features(shades), block_means(shades, LAYOUT_SIDE, LAYOUT_SIDE).reshape(-1)])


def to_levels(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities as whole multiples of 1 / NUM_LEVELS, uint16; ties go to the even one."""
    levels: np.ndarray = np.rint(probabilities * NUM_LEVELS).astype(np.uint16)
    return levels


def from_levels(levels: np.ndarray) -> np.ndarray:
    """The probabilities that `to_levels` rounded to, float64."""
    probabilities: np.ndarray = levels / NUM_LEVELS
    return probabilities


def save_difficulty(predictor: DifficultyPredictor, path: Path) -> None:
    """Write it as data.  Raises OSError with the old file intact."""
    save_predictor(path, predictor.card, predictor.models)


def load_difficulty(path: Path) -> DifficultyPredictor:
    """Read it.  Raises InvalidPredictor when the file is corrupt or of other features than this version computes."""
    card, models = load_predictor(path, DifficultyCard, len(PICTURE_FEATURES) + LAYOUT_SIDE**2)
    if (card.features, card.layout_side) != (tuple(PICTURE_FEATURES), LAYOUT_SIDE):
        raise InvalidPredictor(f"{path} was fitted on other features: {card.features}, layout {card.layout_side}; fit it again")
    if len(models) != len(card.exits):
        raise InvalidPredictor(f"{path} holds {len(models)} models for {len(card.exits)} exits; fit it again")
    return DifficultyPredictor(card=card, models=models)
