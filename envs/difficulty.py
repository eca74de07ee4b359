"""From what is predicted of an input to the error that a decision's ways are charged for it.

A way (envs/ways.py) has a measured error w; its exit's has the measured average b.  Where the device says that the exit errs
on this input with probability p, the way's odds of an error grow as the exit's do:

    odds(e) = odds(w) * odds(p) / odds(b)

so a plain decision, w = b, errs with probability p, and what a codec adds to the error or a confident exit takes from it
is kept.  This is Bayes' rule when what made the way differ says nothing of the input that p does not.
"""

from __future__ import annotations

import numpy as np

from envs.costs import CostModel
from envs.raw_state import FloatArray
from runtime.errors import InvalidInput


def error_given(way_error: FloatArray, base_error: FloatArray, predicted: FloatArray) -> FloatArray:
    """P(wrong) of ways given what is predicted of their exits, all in 0..1 and broadcast together; `way_error` where odds are 0/0."""
    wrong = way_error * (1 - base_error) * predicted
    total = wrong + (1 - way_error) * base_error * (1 - predicted)
    error: FloatArray = np.where(total > 0, wrong / np.where(total > 0, total, 1), way_error)
    return error


class WayErrors:
    """A cost model's ways, those of predicted exits first looked up: their errors in N states."""

    def __init__(self, cost_model: CostModel, dtype: np.dtype | type = np.float64) -> None:
        self._targets = {(exit.variant, exit.exit): index for index, exit in enumerate(cost_model.difficulty)}
        decisions = [cost_model.decisions[index] for index in cost_model.way_decision]
        exits = zip(decisions, cost_model.way_exit, strict=True)
        target = np.array([self._targets.get((decision.variant, exit), -1) for decision, exit in exits])
        self._ways = np.flatnonzero(target >= 0)
        """[W] ways whose exit is predicted."""
        self._target = target
        self._way_error = np.array(cost_model.expected_error, dtype)
        base = np.array([exit.error for exit in cost_model.difficulty], dtype)
        self._base_error = np.where(target >= 0, base[target], 0).astype(dtype) if len(base) else np.zeros(len(target), dtype)

    def all(self, difficulty: FloatArray) -> FloatArray:
        """Of all ways, [V, N], from what is predicted in N states, [targets, N].

        Raises InvalidInput when that is not of as many exits as the cost model knows.
        """
        if len(difficulty) != len(self._targets):
            raise InvalidInput(
                f"the device tells how hard inputs are for {len(difficulty)} exits, the cost model knows {len(self._targets)}:"
                " they are of different predictors; profile the model again, and train on that profile"
            )
        error = np.repeat(self._way_error[:, None], difficulty.shape[1], axis=1)
        ways = self._ways
        told = difficulty.astype(error.dtype)[self._target[ways]]
        error[ways] = error_given(self._way_error[ways, None], self._base_error[ways, None], told)
        return error

    def of(self, ways: np.ndarray, difficulty: FloatArray) -> FloatArray:
        """[N]: of one way in each of N states, from [targets, N]."""
        target = self._target[ways]
        told = difficulty[target, np.arange(len(ways))]
        error = error_given(self._way_error[ways], self._base_error[ways], told)
        return np.where(target >= 0, error, self._way_error[ways])
