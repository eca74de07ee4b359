"""Where inputs are looked at, and what comes of those that cannot be."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from runtime.codecs.parcel import Parcel, pack
from runtime.inference.cache import Sketcher, fingerprint
from runtime.inference.difficulty import DifficultyCard, DifficultyPredictor, ExitDifficulty
from runtime.inference.logistic import Logistic
from runtime.inference.pictures import thumbnail
from runtime.inspector import LOOP_BYTES, Inspector
from runtime.messages import TensorSpec
from runtime.protocol.events import Inspect

EVEN = DifficultyPredictor(
    card=DifficultyCard(model="tiny", version="1", exits=(ExitDifficulty(variant="fp32", exit=0, predicted=True),)),
    models=(Logistic(mean=np.zeros(71), scale=np.ones(71), weights=np.zeros(71), bias=0.0),),
)
"""Calls every picture as likely wrong as right."""
PICTURE = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def inspector(woken: threading.Event) -> Iterator[Inspector]:
    inspector = Inspector(woken.set)
    yield inspector
    inspector.close()
    inspector.close()


def job(picture: np.ndarray = PICTURE, *, slowdown: float = 1.0, side: int = 4) -> Inspect:
    sketcher = Sketcher([TensorSpec(shape=picture.shape, dtype="uint8")])
    return Inspect(request_id=5, parcel=pack([picture]), digest=True, sketcher=sketcher, thumbnail_side=side, slowdown=slowdown)


def test_it_gives_what_was_asked_for(inspector: Inspector) -> None:
    """Digest, sketch and thumbnail, or none of them."""
    asked = job()
    seen = inspector.inspect(asked)
    assert seen.fingerprint is not None
    assert seen.fingerprint.sketch == fingerprint([PICTURE], asked.sketcher).sketch
    assert seen.thumbnail is not None
    np.testing.assert_array_equal(seen.thumbnail, thumbnail(PICTURE, 4))
    assert seen.parcel is asked.parcel
    nothing = inspector.inspect(msgspec.structs.replace(asked, digest=False, sketcher=None, thumbnail_side=0))
    assert (nothing.fingerprint, nothing.thumbnail, nothing.error) == (None, None, "")


def test_it_tells_how_hard_the_input_is(inspector: Inspector) -> None:
    """As the predictor does, on the loop and beside it; nothing where that is not asked, and in words where it cannot be told."""
    asked = msgspec.structs.replace(job(side=0), digest=False, sketcher=None, difficulty=EVEN)
    assert inspector.inspect(asked).difficulty == EVEN.predict(PICTURE) == (2048 / 4095,)
    assert inspector.inspect(job()).difficulty == ()
    small = inspector.inspect(msgspec.structs.replace(asked, parcel=pack([PICTURE[..., :4]])))
    assert "8x8 pixels" in small.error


def test_small_inputs_of_real_tiers_only_are_looked_at_on_the_loop(inspector: Inspector) -> None:
    """Up to LOOP_BYTES; and nobody waits for an emulated tier on the loop."""
    side = int(LOOP_BYTES**0.5)
    assert inspector.is_quick(job(np.zeros((1, 1, side, side), dtype=np.uint8)))
    assert not inspector.is_quick(job(np.zeros((1, 1, side, side + 1), dtype=np.uint8)))
    assert not inspector.is_quick(job(slowdown=2.0))


def test_the_thread_gives_the_same_and_wakes_the_loop(inspector: Inspector, woken: threading.Event) -> None:
    """One event for each job, in their order."""
    jobs = [msgspec.structs.replace(job(slowdown=slowdown), request_id=index) for index, slowdown in enumerate((1.0, 3.0))]
    for one in jobs:
        inspector.submit(one)
    while len(inspector.done) < 2:
        assert woken.wait(10.0)
        woken.clear()
    assert [seen.request_id for seen in inspector.done] == [0, 1]
    assert {seen.fingerprint for seen in inspector.done} == {inspector.inspect(jobs[0]).fingerprint}


@pytest.mark.parametrize(
    "parcel",
    [Parcel(specs=(TensorSpec(shape=(1, 1, 8, 8), dtype="uint8"),), frames=(b"short",)), pack([np.zeros((2, 3), dtype=np.float32)])],
)
def test_what_cannot_be_looked_at_is_an_error_in_words(inspector: Inspector, parcel: Parcel) -> None:
    """Frames that are not what they say, or no picture where one is due: data, no exception."""
    assert inspector.inspect(msgspec.structs.replace(job(), parcel=parcel, sketcher=None)).error
