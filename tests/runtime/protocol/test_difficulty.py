"""The device looks at an input before it asks for a decision, and says how hard it is."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.inference.cache import CacheConfig
from runtime.inference.difficulty import DifficultyCard, DifficultyPredictor, ExitDifficulty
from runtime.inference.logistic import Logistic
from runtime.messages import Decided, Observation
from runtime.protocol.events import Inspect, Inspected
from tests.runtime.protocol_helpers import decision, received, runs, sent
from tests.runtime.reuse_helpers import LOOK_S, TOLD, ask, caching_device, looked, outcome_of, picture, settle, worked

PREDICTOR = DifficultyPredictor(
    card=DifficultyCard(
        model="tiny", version="1", exits=tuple(ExitDifficulty(variant="fp32", exit=exit, predicted=True) for exit in range(2))
    ),
    models=(Logistic(mean=np.zeros(71), scale=np.ones(71), weights=np.zeros(71), bias=0.0),) * 2,
)


@pytest.mark.parametrize("cache", [None, CacheConfig()])
def test_whoever_decides_is_told(cache: CacheConfig | None) -> None:
    """Looked at once, for the cache too if there is one; the time is the look's, and the parts still tile the whole."""
    device = caching_device(cache, difficulty=PREDICTOR, controller=True)
    (inspect,) = device.handle(ask(1, 1.0, picture()))
    assert isinstance(inspect, Inspect)
    assert (inspect.difficulty, inspect.digest) == (PREDICTOR, cache is not None)
    (observation,) = sent(device.handle(looked(inspect, 1.0 + LOOK_S)), "controller")
    assert isinstance(observation, Observation)
    assert observation.difficulty == TOLD
    decided = Decided(request_id=1, decision=decision((3, 3)))
    (run,) = runs(device.handle(received(decided, at_s=1.01, source="controller")))
    outcome = outcome_of(device.handle(worked(run, 1.1)))
    assert outcome.breakdown.reuse_s[0] == pytest.approx(LOOK_S)
    assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)
    assert outcome.energy_joules > 0


def test_without_a_controller_the_fallback_is_told() -> None:
    """It decides by the same observation."""
    told: list[tuple[float, ...]] = []
    device = caching_device(None, difficulty=PREDICTOR)
    usual = device._fallbacks["tiny"]
    device._fallbacks["tiny"] = lambda observation: told.append(observation.difficulty) or usual(observation)  # type: ignore[func-returns-value]
    assert runs(settle(device, ask(1, 1.0, picture())))
    assert told == [TOLD]


def test_what_the_client_decided_is_not_looked_at() -> None:
    """Nobody would be told."""
    device = caching_device(None, difficulty=PREDICTOR)
    assert len(runs(device.handle(ask(1, 1.0, picture(), decision((3, 3)))))) == 1


def test_a_fresh_request_is_told_and_not_remembered() -> None:
    """Its input is looked at for its difficulty only: a cache hears nothing of it, however often it comes."""
    device = caching_device(difficulty=PREDICTOR)
    for request_id in (1, 2):
        (inspect,) = device.handle(ask(request_id, request_id, picture(), fresh=True))
        assert isinstance(inspect, Inspect)
        assert (inspect.digest, inspect.difficulty) == (False, PREDICTOR)
        (run,) = runs(device.handle(looked(inspect, request_id + LOOK_S)))
        assert outcome_of(device.handle(worked(run, request_id + 0.1))).reused == "no"


def test_a_picture_that_cannot_be_told_of_is_bad_input() -> None:
    """The request ends with that, in the predictor's words."""
    device = caching_device(None, difficulty=PREDICTOR, controller=True)
    (inspect,) = device.handle(ask(1, 1.0, picture()))
    assert isinstance(inspect, Inspect)
    failed = Inspected(request_id=1, parcel=inspect.parcel, started_at_s=1.0, finished_at_s=1.1, at_s=1.1, error="too small")
    outcome = outcome_of(device.handle(failed))
    assert (outcome.status, outcome.message) == ("bad_input", "too small")
