"""Showing how an agent learns: on a progress line while it does, and as the curve that reports draw."""

from __future__ import annotations

from collections.abc import Callable

from agents.training import CurvePoint, TrainResult
from drlctl.output import Progress
from experiments.learning import LearningCurve


def learning(line: Progress, timesteps: int) -> Callable[[CurvePoint], None]:
    """Show each evaluation of a training of so many timesteps on a progress line."""

    def show(point: CurvePoint) -> None:
        text = f"{point.timesteps} decisions: cost {point.learned_cost:.4f}, greedy {point.greedy_cost:.4f}"
        line(text, min(1.0, point.timesteps / timesteps))

    return show


def curve_of(result: TrainResult) -> LearningCurve:
    """The curve as the report's plot wants it."""
    scores = result.bundle.manifest.scores
    return LearningCurve(
        timesteps=tuple(point.timesteps for point in result.curve),
        cost=tuple(point.learned_cost for point in result.curve),
        baselines={name: score for name, score in scores.items() if name != "learned"},
    )
