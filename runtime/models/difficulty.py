"""A built model's difficulty predictor: fitted on its validation examples, judged on its test examples, kept beside it.

Numpy only: any host that has the model's directory can fit it, and finds the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.errors import InvalidInput, InvalidPredictor
from runtime.inference.cache import content_version
from runtime.inference.difficulty import (
    DifficultyCard,
    DifficultyPredictor,
    ExitDifficulty,
    difficulty_features,
    load_difficulty,
    save_difficulty,
    to_levels,
)
from runtime.inference.difficulty_fit import FittedExit, fit_exit
from runtime.inference.logistic import log_loss
from runtime.inference.scores import roc_auc
from runtime.models.examples import load_examples, load_judgement
from runtime.models.manifest import Manifest, load_manifest

DIFFICULTY_NAME = "difficulty.safetensors"


class FittedDifficulty(NamedTuple):
    """A predictor, and what it says of the model's own examples."""

    predictor: DifficultyPredictor
    levels: dict[str, np.ndarray]
    """split -> uint16 [targets, N]: predictions on the grid of `to_levels`.

    Of the test split what a device predicts; of validation, which it was fitted on, what models fitted without the
    example do, so that nobody learns to trust it more than it deserves."""


def can_tell(manifest: Manifest) -> bool:
    """Whether there is difficulty to be told: the model classifies pictures of bytes."""
    spec = manifest.input
    return bool(manifest.classes) and spec.dtype == "uint8" and len(spec.shape) == 4 and spec.shape[1] in (1, 3)


def fit_difficulty(directory: Path) -> FittedDifficulty:
    """Fit the predictor of a built model and keep it beside the manifest.

    Raises InvalidInput for a model of which nothing can be told, UnknownModel when there is none.
    """
    manifest = load_manifest(directory)
    if not can_tell(manifest):
        raise InvalidInput(f"difficulty is told of classifiers of uint8 pictures; {manifest.model!r} is none: switch it off")
    features = {split: _features(directory, split) for split in ("validation", "test")}
    fitted, exits = [], []
    for variant in manifest.variants:
        wrong = {split: load_judgement(directory, split, variant).correct == 0 for split in features}
        for exit in range(len(manifest.exit_ends)):
            fitted.append(fit_exit(features["validation"], wrong["validation"][exit], seed=exit))
            num_errors = int(wrong["validation"][exit].sum())
            exits.append(_judged(variant, exit, num_errors, fitted[-1], features["test"], wrong["test"][exit]))
    card = DifficultyCard(
        model=manifest.model, version=content_version(manifest), num_samples=len(features["validation"]), exits=tuple(exits)
    )
    predictor = DifficultyPredictor(card=card, models=tuple(one.model for one in fitted))
    save_difficulty(predictor, directory / DIFFICULTY_NAME)
    held_out = [one.held_out for one in fitted if one.predicted]
    validation = np.stack(held_out) if held_out else np.empty((0, card.num_samples))
    return FittedDifficulty(
        predictor, {"validation": to_levels(validation), "test": to_levels(predictor.from_features(features["test"]).T)}
    )


def ensure_difficulty(directory: Path) -> DifficultyPredictor:
    """The predictor of a built model, fitted first where there is none or it is of other weights.

    Raises InvalidInput and UnknownModel as `fit_difficulty`.
    """
    try:
        return read_difficulty(directory)
    except InvalidPredictor:
        return fit_difficulty(directory).predictor


def read_difficulty(directory: Path) -> DifficultyPredictor:
    """The predictor beside a model.  Raises InvalidPredictor when there is none, or it was fitted on other weights."""
    path = directory / DIFFICULTY_NAME
    predictor, manifest = load_difficulty(path), load_manifest(directory)
    if predictor.card.version != content_version(manifest):
        raise InvalidPredictor(f"{path} was fitted on other weights of {manifest.model!r}; fit it again with `drlctl profile`")
    return predictor


def _features(directory: Path, split: str) -> np.ndarray:
    return np.stack([difficulty_features(image) for image in load_examples(directory, split).images])


def _judged(variant: str, exit: int, num_errors: int, fitted: FittedExit, features: np.ndarray, wrong: np.ndarray) -> ExitDifficulty:
    """With how well it tells the errors of pictures [N, F] that nothing was fitted on."""
    log_odds = fitted.model.log_odds(features)
    return ExitDifficulty(
        variant=variant,
        exit=exit,
        num_errors=num_errors,
        predicted=fitted.predicted,
        auc=roc_auc(log_odds, wrong),
        log_loss=log_loss(log_odds, wrong),
        base_log_loss=log_loss(np.full(len(wrong), fitted.base_log_odds), wrong),
    )
