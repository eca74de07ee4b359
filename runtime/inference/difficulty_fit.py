"""Learning which pictures an exit gets wrong, and saying honestly whether there was anything to learn.

How strong the ridge is, cross-validation says, up to infinite: then nothing was learnt and the prediction is the base
rate.  What was held out also calibrates the model, and decides whether it is used: by how much it beats the base rate must
exceed one standard error of that difference.
Sources: one standard error, Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3; calibration on
held-out log odds, Platt, "Probabilistic outputs for support vector machines", 1999, section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from runtime.errors import InvalidInput
from runtime.inference.logistic import Logistic, fit_logistic, log_loss, log_losses, sigmoid

RIDGES = (float("inf"), 1000.0, 100.0, 10.0, 1.0)
"""Candidates, the constant first: a weaker ridge must be strictly better to be taken."""
NUM_FOLDS = 5
MIN_ERRORS = 10
"""Fewer errors (or right answers) than this cannot tell skill from luck: nothing is claimed then."""


class FittedExit(NamedTuple):
    """What was learnt of one exit."""

    model: Logistic
    """The base rate where nothing was."""
    predicted: bool
    """Whether it beats the base rate."""
    held_out: np.ndarray
    """float64 [N]: P(wrong) of each sample by a model that was fitted without it."""
    base_log_odds: float
    """Of the base rate."""


def fit_exit(features: np.ndarray, wrong: np.ndarray, *, seed: int = 0) -> FittedExit:
    """Learn from features [N, F] and wrong bool [N] of pictures that the network was not trained on; `seed` shuffles the folds.

    Raises InvalidInput when shapes do not fit or there are fewer samples than folds.
    """
    if wrong.shape != (len(features),) or len(wrong) < NUM_FOLDS:
        raise InvalidInput(f"difficulty needs {NUM_FOLDS} samples or more, got {wrong.shape} for {len(features)} pictures")
    folds = _stratified_folds(wrong, np.random.default_rng(seed))
    log_odds = {l2: _held_out_log_odds(features, wrong, folds, l2) for l2 in RIDGES}
    base = RIDGES[0]
    l2 = min(RIDGES, key=lambda candidate: log_loss(log_odds[candidate], wrong))
    calibration = fit_logistic(log_odds[l2][:, None], wrong, 1.0)
    slope = float(calibration.weights[0] / calibration.scale[0])
    gains = log_losses(log_odds[base], wrong) - log_losses(log_odds[l2], wrong)
    constant = fit_logistic(features, wrong, base)
    few = min(int(wrong.sum()), int((~wrong).sum())) < MIN_ERRORS
    if few or slope <= 0 or gains.mean() <= gains.std() / np.sqrt(len(gains)):
        return FittedExit(constant, False, sigmoid(log_odds[base]), constant.bias)
    offset = calibration.bias - slope * float(calibration.mean[0])
    model = fit_logistic(features, wrong, l2).rescaled(slope, offset)
    return FittedExit(model, True, sigmoid(slope * log_odds[l2] + offset), constant.bias)


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
