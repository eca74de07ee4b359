"""Exits taken by confidence: how sure logits are, and thresholds that keep accuracy and save the most.  Numpy only.

A request leaves at the first exit whose normalised entropy is below that exit's threshold, else at the last:

    eta(p) = -sum_c p_c ln p_c / ln C        0: one class has it all, 1: all classes alike

Source: Teerapittayanon, McDanel, Kung, "BranchyNet", ICPR 2016, section III.C (exit when the entropy is below T_n);
normalised by ln C: the same authors, "Distributed Deep Neural Networks over the Cloud, the Edge and End Devices",
ICDCS 2017, section III.D.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from runtime.errors import InvalidInput

MAX_CASES = 20_000_000
"""Examples judged in a whole search, about a second; above, the outer thresholds come from quantiles."""
NEVER = 0.0
"""The threshold of an exit that nobody takes: entropies are not negative."""


def normalised_entropy(logits: np.ndarray) -> np.ndarray:
    """Logits [..., C], C >= 2, finite -> entropy of their softmax over that of a uniform one, float64 [...] in [0, 1]."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=-1)
    entropies = np.log(sums) - (exponentials * shifted).sum(axis=-1) / sums
    clipped: np.ndarray = np.clip(entropies / np.log(shifted.shape[-1]), 0.0, 1.0)
    return clipped


def take_exits(entropies: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Entropies [E, N] and E - 1 thresholds -> the exit each example leaves at, int64 [N]."""
    early = np.asarray(entropies)[: len(thresholds)] < np.asarray(thresholds, dtype=np.float64).reshape(-1, 1)
    last = np.ones((1, early.shape[1]), dtype=bool)
    taken: np.ndarray = np.concatenate([early, last]).argmax(axis=0)
    return taken


def calibrate_thresholds(
    entropies: np.ndarray, correct: np.ndarray, exit_costs: Sequence[float], max_accuracy_loss: float
) -> tuple[float, ...]:
    """E - 1 thresholds of least mean cost among those at most `max_accuracy_loss` less accurate than the last exit.

    Entropies [E, N] in [0, 1] and correct [E, N] (0 or 1) of a validation split; `exit_costs` [E] is what a request
    costs that leaves there, in any unit.  The loss is a share, 0 allowed, and never exceeded on these examples.
    The search is exact for two exits, and for more while it is small; else all thresholds but the last early exit's
    are quantiles.  Of equal costs the more accurate wins.  Raises InvalidInput for shapes that do not fit.
    """
    entropies, correct = np.asarray(entropies, dtype=np.float64), np.asarray(correct, dtype=np.int64)
    costs = np.asarray(exit_costs, dtype=np.float64)
    _check(entropies, correct, costs, max_accuracy_loss)
    num_exits, num_examples = entropies.shape
    if num_exits == 1:
        return ()
    fewest_correct = int(correct[-1].sum()) - int(max_accuracy_loss * num_examples + 1e-9)
    best: tuple[float, int, tuple[float, ...]] = (np.inf, 0, ())
    for outer in product(*_candidates(entropies[:-2])):
        found = _best_inner(entropies, correct, costs, outer, fewest_correct)
        if found is not None and found[:2] < best[:2]:
            best = found
    return tuple(float(threshold) for threshold in best[2])


def _best_inner(
    entropies: np.ndarray, correct: np.ndarray, costs: np.ndarray, outer: Sequence[float], fewest_correct: int
) -> tuple[float, int, tuple[float, ...]] | None:
    """(total cost, -number correct, thresholds) with the best threshold of the last early exit behind fixed others.

    Those who reach it are put in order of entropy.  Moving the threshold past k of them moves k from the last exit to
    this one, so that running sums give every threshold's cost and number correct at once.
    """
    taken = take_exits(entropies[: len(outer) + 1], outer)
    left, staying = np.flatnonzero(taken < len(outer)), np.flatnonzero(taken == len(outer))
    order = staying[np.argsort(entropies[-2, staying])]
    gains = np.concatenate([[0], np.cumsum(correct[-2, order] - correct[-1, order])])
    counts, thresholds = _thresholds(entropies[-2, order])
    num_correct = correct[taken[left], left].sum() + correct[-1, staying].sum() + gains[counts]
    totals = costs[taken[left]].sum() + costs[-1] * len(staying) + counts * (costs[-2] - costs[-1])
    allowed = np.flatnonzero(num_correct >= fewest_correct)
    if not len(allowed):
        return None
    index = allowed[np.lexsort((-num_correct[allowed], totals[allowed]))[0]]
    return float(totals[index]), -int(num_correct[index]), (*outer, float(thresholds[index]))


def _thresholds(ranked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entropies in rising order -> (how many leave, the threshold that does it) for none, some, ... and all of them."""
    if not len(ranked):
        return np.array([0]), np.array([NEVER])
    thresholds = np.append(ranked, np.nextafter(ranked[-1], np.inf))
    counts = np.flatnonzero(np.diff(thresholds, prepend=-1.0) > 0)  # equal entropies leave together
    thresholds[0] = NEVER
    return counts, thresholds[counts]


def _candidates(entropies: np.ndarray) -> list[np.ndarray]:
    """Thresholds to try at each of the outer exits: all that differ, or as many quantiles as the search has time for."""
    num_outer, num_examples = entropies.shape
    tried = [_thresholds(np.sort(row))[1] for row in entropies]
    most = max(2, int((MAX_CASES / num_examples) ** (1 / max(1, num_outer))))
    spaced = [np.linspace(0, len(row) - 1, min(len(row), most)).round().astype(np.int64) for row in tried]
    return [row[index] for row, index in zip(tried, spaced, strict=True)]


def _check(entropies: np.ndarray, correct: np.ndarray, costs: np.ndarray, max_accuracy_loss: float) -> None:
    if entropies.ndim != 2 or entropies.size == 0 or correct.shape != entropies.shape or costs.shape != entropies.shape[:1]:
        raise InvalidInput(
            f"entropies [E, N], correct [E, N] and exit costs [E] must fit, got {entropies.shape}, {correct.shape}, {costs.shape}"
        )
    if not np.isfinite(entropies).all() or entropies.min() < 0 or not np.isfinite(costs).all() or costs.min() < 0:
        raise InvalidInput("entropies and exit costs must be finite and >= 0")
    if not np.isin(correct, (0, 1)).all() or not 0 <= max_accuracy_loss <= 1:
        raise InvalidInput(f"correct must be 0 or 1 and the accuracy loss a share 0..1, got {max_accuracy_loss}")
