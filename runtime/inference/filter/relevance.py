"""A model so small that a device always affords it: is there anything of interest in this frame?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from runtime.errors import InvalidInput, InvalidPredictor
from runtime.inference.bounds import binomial_upper
from runtime.inference.features import contrast, edge_density, entropy
from runtime.inference.filter.difference import blocked, mean
from runtime.inference.logistic import Logistic, fit_logistic
from runtime.inference.predictor_file import load_predictor, save_predictor

RELEVANCE_FEATURES = ("contrast", "edge_density", "entropy", "mean_change", "blocked_change", "changed_fraction")
CHANGED_STEP = 10.0
"""Grey levels off the background from which on a cell counts as changed: above what noise leaves of a cell's mean."""
CANDIDATES = tuple(np.geomspace(1e-4, 0.5, 24).tolist())
"""Thresholds of P(relevant), rising."""


class RelevanceCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a fitted model is, and what it was measured to do."""

    features: tuple[str, ...] = RELEVANCE_FEATURES
    threshold: float = 0.0
    """Frames with a smaller P(relevant) are irrelevant; 0 drops none."""
    num_relevant: int = 0
    """Relevant frames of the calibration."""
    num_missed: int = 0
    """Of them, those below the threshold."""
    num_dropped: int = 0
    """All frames below it."""
    num_frames: int = 0
    miss_upper: float = 1.0
    """Upper confidence bound of the share of relevant frames that are missed."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"a relevance threshold lies in 0..1, got {self.threshold!r}")


class RelevanceModel(msgspec.Struct, frozen=True, kw_only=True):
    """P(relevant | features), and the threshold below which a frame is dropped."""

    card: RelevanceCard
    model: Logistic

    def is_irrelevant(self, features: np.ndarray) -> bool:
        """Whether one frame's features [F] say that nothing of interest is there."""
        return bool(self.model.probability(features) < self.card.threshold)


def relevance_features(small: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Numbers of a grey thumbnail and of its change against the background, float64 [F], as RELEVANCE_FEATURES."""
    changed = np.count_nonzero(np.abs(small - background) >= CHANGED_STEP) / small.size
    return np.array([contrast(small), edge_density(small), entropy(small), mean(small, background), blocked(small, background), changed])


def fit_relevance(features: np.ndarray, relevant: np.ndarray, *, l2: float = 1.0) -> RelevanceModel:
    """Learn from features [N, F] and relevant [N] of 0 and 1; drops nothing until it is calibrated.

    Raises InvalidInput as `fit_logistic`.
    """
    return RelevanceModel(card=RelevanceCard(), model=fit_logistic(features, relevant, l2))


def calibrate_relevance(
    model: RelevanceModel,
    features: np.ndarray,
    relevant: np.ndarray,
    target_miss_fraction: float,
    *,
    confidence: float = 0.95,
    candidates: Sequence[float] = CANDIDATES,
) -> RelevanceModel:
    """The model with the highest threshold that misses at most this share of relevant frames, with that confidence.

    Frames must be others than it was fitted on.  Candidates are tried in rising order, and the first whose binomial
    bound breaks the target ends it, so trying many costs no confidence; where none keeps it the threshold is 0.
    The bound holds for independent frames; neighbours of one stream are not, so take them from many streams.
    Raises InvalidInput when features and labels do not fit.  Source: fixed-sequence testing, Maurer et al. 1995.
    """
    if len(features) != len(relevant):
        raise InvalidInput(f"{len(features)} frames need as many labels, got {len(relevant)}")
    probability, labels = model.model.probability(features), np.asarray(relevant, dtype=bool)
    best = RelevanceCard(num_relevant=int(labels.sum()), num_frames=len(labels))
    for threshold in sorted(candidates):
        dropped = probability < threshold
        num_missed = int((dropped & labels).sum())
        upper = binomial_upper(num_missed, best.num_relevant, confidence)
        if upper > target_miss_fraction:
            break
        best = msgspec.structs.replace(best, threshold=threshold, num_missed=num_missed, num_dropped=int(dropped.sum()), miss_upper=upper)
    return msgspec.structs.replace(model, card=best)


def save_relevance(model: RelevanceModel, path: Path) -> None:
    """Write it as data.  Raises OSError with the old file intact."""
    save_predictor(path, model.card, (model.model,))


def load_relevance(path: Path) -> RelevanceModel:
    """Read it.  Raises InvalidPredictor when the file is corrupt or of other features than this version computes."""
    card, models = load_predictor(path, RelevanceCard, len(RELEVANCE_FEATURES))
    if card.features != RELEVANCE_FEATURES or len(models) != 1:
        raise InvalidPredictor(f"{path} was fitted on {card.features} for {len(models)} outputs; fit it again")
    return RelevanceModel(card=card, model=models[0])
