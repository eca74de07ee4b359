"""Fit the convergence model to recorded rounds, and say how far it is off on others.  Needs scipy, of the `train` extra.

Least squares on the logarithm of the loss, so that the end of a run, where the target is, counts like its beginning.
Every run counts the same, whatever its number of rounds: those of small tau would drown the others.
Curvatures are a geometric series, of which the first is fitted: a sum of exponentials on a fixed grid describes any loss
that falls ever more slowly.  With one learning rate and one number of clients in the recordings,
noise and irreducible loss cannot be told apart, and are not to be believed singly.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from runtime.errors import InvalidInput
from runtime.training.convergence import Array, ConvergenceModel, Rounds
from runtime.training.recording import Recording

NUM_CLASSES, CURVATURE_RATIO = 5, 5.0
MIN_LOSS = 1e-6
"""Losses below it count as it: logarithms."""
PRIOR_WEIGHT = 0.05
"""Residual per unit of a parameter's logarithm: holds what the recordings do not determine near its start."""
_SPREAD, _NOISE, _IRREDUCIBLE, _FASTEST = range(4)
_NUM_SHAPE = 4


class FitError(msgspec.Struct, frozen=True, kw_only=True):
    """How far predicted losses are from recorded ones, all rounds alike."""

    num_rounds: int
    mean_absolute: float
    """In units of the loss."""
    mean_relative: float
    """|predicted - recorded| / recorded."""
    worst_relative: float


def predict(model: ConvergenceModel, recordings: Sequence[Recording]) -> list[Array]:
    """Loss after each recorded round of each run, [R_i]: a run is predicted from its start, nothing of it is looked at but tau."""
    longest = max(len(recording.rounds) for recording in recordings)
    taus, clients = (np.ones((len(recordings), longest)) for _ in range(2))
    for row, recording in enumerate(recordings):
        taus[row, : len(recording.rounds)] = [record.tau for record in recording.rounds]
        clients[row, : len(recording.rounds)] = [record.num_clients for record in recording.rounds]
    rates = np.array([recording.learning_rate for recording in recordings])
    every = model.rounds(taus.T.ravel(), np.tile(rates, longest), clients.T.ravel(), longest * len(recordings))
    progress, losses = model.start(len(recordings)), np.empty((longest, len(recordings)))
    for index in range(longest):
        columns = slice(index * len(recordings), (index + 1) * len(recordings))
        progress = Rounds(*(part[:, columns] for part in every)).apply(progress)
        losses[index] = model.loss(progress)
    return [losses[: len(recording.rounds), row] for row, recording in enumerate(recordings)]


def fit(recordings: Sequence[Recording]) -> ConvergenceModel:
    """The model of least error on these runs.

    Raises InvalidInput when there are fewer rounds than parameters, or runs that diverged.
    """
    num_rounds = sum(len(recording.rounds) for recording in recordings)
    num_parameters = _NUM_SHAPE + 2 * NUM_CLASSES
    if num_rounds < num_parameters:
        raise InvalidInput(f"fitting takes at least {num_parameters} recorded rounds, got {num_rounds}")
    recorded = np.concatenate([_recorded(recording) for recording in recordings])
    if not np.isfinite(recorded).all():
        raise InvalidInput("a run with losses that are not finite cannot be fitted; leave out what diverged")
    start, weights = _start(recordings), _weights(recordings)

    def residuals(parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        model = _model(parameters, recordings)
        predicted = np.concatenate(predict(model, recordings))
        off = np.log(np.clip(predicted, MIN_LOSS, 1e6)) - np.log(np.maximum(recorded, MIN_LOSS))
        return np.concatenate([weights * off, PRIOR_WEIGHT * (parameters - start)])

    return _model(least_squares(residuals, start, bounds=(start - 12.0, start + 12.0), max_nfev=60).x, recordings)


def error(model: ConvergenceModel, recordings: Sequence[Recording]) -> FitError:
    """The model's error on runs, best on such as it was not fitted to."""
    predicted = np.concatenate(predict(model, recordings))
    recorded = np.concatenate([_recorded(recording) for recording in recordings])
    off = np.abs(predicted - recorded)
    relative = off / np.maximum(recorded, MIN_LOSS)
    return FitError(
        num_rounds=len(recorded),
        mean_absolute=float(off.mean()),
        mean_relative=float(relative.mean()),
        worst_relative=float(relative.max()),
    )


def _weights(recordings: Sequence[Recording]) -> Array:
    """Of each round's residual: squares sum to the number of rounds, and to the same in every run."""
    mean = sum(len(recording.rounds) for recording in recordings) / len(recordings)
    return np.concatenate([np.full(len(recording.rounds), np.sqrt(mean / len(recording.rounds))) for recording in recordings])


def _recorded(recording: Recording) -> Array:
    return np.array([record.loss for record in recording.rounds])


def _start(recordings: Sequence[Recording]) -> npt.NDArray[np.float64]:
    """Unbounded parameters to begin at: the fastest class halves in a step, each slower one takes five times as long."""
    rate = recordings[0].learning_rate
    lowest = max(min(float(_recorded(recording).min()) for recording in recordings), MIN_LOSS)
    shape = np.zeros(_NUM_SHAPE)
    shape[_SPREAD], shape[_NOISE], shape[_IRREDUCIBLE], shape[_FASTEST] = 0.0, np.log(0.01), np.log(lowest / 2), np.log(0.5 / rate)
    return np.concatenate([shape, np.zeros(NUM_CLASSES), np.full(NUM_CLASSES, np.log(0.1))])


def _model(parameters: npt.NDArray[np.float64], recordings: Sequence[Recording]) -> ConvergenceModel:
    """Logarithms and a logit into a model; the gaps share out what the runs begin with above the irreducible loss."""
    shape, weights, heterogeneity = np.split(parameters, [_NUM_SHAPE, _NUM_SHAPE + NUM_CLASSES])
    weights = np.exp(weights)
    initial = float(np.mean([recording.initial_loss for recording in recordings]))
    irreducible = min(float(np.exp(shape[_IRREDUCIBLE])), 0.99 * initial)
    gaps = (initial - irreducible) * weights / weights.sum()
    return ConvergenceModel(
        curvatures=tuple((np.exp(shape[_FASTEST]) * CURVATURE_RATIO ** -np.arange(NUM_CLASSES)).tolist()),
        initial_gaps=tuple(gaps.tolist()),
        irreducible_loss=irreducible,
        noise=float(np.exp(shape[_NOISE])),
        spread=float(0.99 / (1.0 + np.exp(-shape[_SPREAD]))),
        heterogeneity=tuple(np.exp(heterogeneity).tolist()),
    )
