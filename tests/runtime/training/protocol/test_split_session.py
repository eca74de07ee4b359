"""A client's round at the server, by hand: every leg is computed with once, and answered as often as it comes."""

from __future__ import annotations

import pytest

from runtime.codecs.parcel import Parcel
from runtime.messages import Leg, Round, SplitStep
from runtime.training.protocol.split_session import SplitSession
from runtime.training.protocol.split_tasks import Piece, SplitDone


def leg(step: int, kind: Leg, **changes: object) -> SplitStep:
    """Of two steps in round 4."""
    return SplitStep(request_id=1, job="j", client="a", round=4, step=step, leg=kind, tau=2, **changes)


def done(step: int, heard: Piece, piece: Piece, *, number: int = 4, loss: float | None = None) -> SplitDone:
    """The trainer's answer, after a quarter of a second."""
    return SplitDone(job="j", client="a", round=number, heard=heard, heard_step=step, step=step, piece=piece, loss=loss, compute_s=0.25)


def begun() -> SplitSession:
    """A session whose device has its part, at second 1."""
    message = Round(request_id=1, job="j", client="a", round=4, tau=2, reply_within_s=60.0)
    session = SplitSession(round=message, weights=Parcel(), arrived_at_s=0.5)
    assert session.answers(done(0, "weights", "part"))
    session.advance(done(0, "weights", "part"), 1.0)
    return session


def test_a_round_from_its_start_to_its_end() -> None:
    """Two steps, and what the root is told: 1.25 s of computing, 0.625 s on the links, the mean loss."""
    session = begun()
    for step, at_s in [(0, 2.0), (1, 3.0)]:
        assert session.react(leg(step, "activations"), at_s, 100) == "compute"
        session.advance(done(step, "activations", "gradients", loss=1.0 + step), at_s + 0.5)
    assert session.due == (2, "part")
    measured = {"compute_s": 0.25, "dwell_s": 2.5, "transfer_s": 0.125, "joules": 3.0}
    assert session.react(leg(2, "part", metrics=measured), 4.0, 50) == "compute"
    session.advance(done(2, "part", "update"), 4.5)
    assert session.metrics(5.0) == {
        "loss": 1.5,
        "compute_s": 4 * 0.25 + 0.25,
        "transfer_s": (4.0 - 1.0 - 2.5) + 0.125,
        "joules": 3.0,
        "dwell_s": 4.5,
        "uplink_up_bytes": 250.0,
        "uplink_down_bytes": 0.0,
        "raw_bytes": 0.0,
    }


def test_a_leg_is_computed_with_once() -> None:
    """While it is computed with a second one is ignored; behind that it is answered again, until the next leg comes."""
    session = begun()
    assert session.react(leg(0, "activations"), 2.0, 0) == "compute"
    assert session.react(leg(0, "activations"), 2.1, 0) == "ignore"
    session.advance(done(0, "activations", "gradients"), 2.2)
    assert session.react(leg(0, "activations"), 2.3, 0) == "again"
    assert session.react(leg(1, "activations"), 2.4, 0) == "compute"
    assert session.react(leg(0, "activations"), 2.5, 0) == "ignore"
    session.advance(done(1, "activations", "gradients"), 2.6)
    assert session.react(leg(0, "activations"), 2.7, 0) == "ignore"


@pytest.mark.parametrize("out_of_turn", [leg(1, "activations"), leg(0, "logit_gradients"), leg(2, "part"), leg(0, "gradients")])
def test_what_is_not_due_is_ignored(out_of_turn: SplitStep) -> None:
    """Steps ahead, and legs that belong elsewhere."""
    session = begun()
    assert session.react(out_of_turn, 2.0, 0) == "ignore"
    assert session.due == (0, "activations")


def test_labels_that_stay_take_two_more_legs() -> None:
    """Logits go down, their gradient comes up with the device's loss, then gradients go down."""
    session = begun()
    session.react(leg(0, "activations"), 2.0, 0)
    session.advance(done(0, "activations", "logits"), 2.1)
    assert session.due == (0, "logit_gradients")
    assert session.react(leg(0, "logit_gradients", loss=0.75), 2.2, 0) == "compute"
    session.advance(done(0, "logit_gradients", "gradients"), 2.3)
    assert session.due == (1, "activations")
    assert session.metrics(3.0)["loss"] == 0.75


def test_results_of_an_earlier_attempt_are_not_taken() -> None:
    """Another round's, another leg's, and any while nothing is being computed."""
    session = begun()
    assert not session.answers(done(0, "weights", "part"))
    session.react(leg(0, "activations"), 2.0, 0)
    assert not session.answers(done(1, "activations", "gradients"))
    assert not session.answers(done(0, "activations", "gradients", number=3))
    assert session.answers(done(0, "activations", "gradients"))


def test_only_the_first_leg_is_asked_for_by_the_server() -> None:
    """Later ones the device sends again itself."""
    session = begun()
    assert session.waits_for_first_leg
    session.react(leg(0, "activations"), 2.0, 0)
    assert not session.waits_for_first_leg
    session.advance(done(0, "activations", "gradients"), 2.1)
    assert not session.waits_for_first_leg
