"""What a device does: asks, falls back, keeps the deadline, and accounts for every second."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.codec import from_frames
from runtime.energy import RadioPower, RadioStates
from runtime.messages import Ack, Decided, Decision, Failure, Observation, Outcome, Refused, Result, Span, Submit, Work
from runtime.protocol.device_machine import ARRIVAL_SMOOTHING_S, CONTROLLER_STRIKES, DeviceMachine
from runtime.protocol.events import Instruction, Send, Source, Undelivered
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.task import DeviceTask
from tests.runtime.protocol_helpers import (
    LOGITS,
    computed,
    decision,
    features,
    image,
    make_device,
    received,
    runs,
    sent,
    start_episode,
    submit,
    tick,
    tiny_manifest,
    work,
)


def outcome_of(instructions: list[Instruction]) -> Outcome:
    (outcome,) = [message for message in sent(instructions, "down") if isinstance(message, Outcome)]
    return outcome


def on_device(observation: Observation) -> Decision:
    return decision((3, 3))


def decided(request_id: int, chosen: Decision, at_s: float) -> object:
    return received(Decided(request_id=request_id, decision=chosen), at_s=at_s, source="controller")


def test_a_given_decision_is_carried_out_on_the_device() -> None:
    """All on the device: computed, answered with the most probable class and its softmax share."""
    device = make_device()
    (run,) = runs(device.handle(submit(1, 1.0, decision((3, 3)))))
    assert (run.start, run.stop, run.exit) == (0, 3, 1)
    outcome = outcome_of(device.handle(computed(1, 1.0, 1.2, [LOGITS])))
    assert (outcome.status, outcome.prediction, outcome.decided_by) == ("ok", 1, "client")
    assert outcome.confidence == pytest.approx(np.exp(2) / np.exp([0, 2, 1]).sum())
    assert outcome.latency_s == pytest.approx(0.2)
    assert outcome.link_bytes == (0, 0)
    assert outcome.leakage == 0.0


def test_energy_is_compute_above_idle_plus_radio() -> None:
    """(5 - 3) W * 0.1 s + 1e-6 J/B * bytes + 1 W * sending time, by hand."""
    device = make_device()
    device.handle(submit(1, 1.0, decision((1, 3))))
    (work,) = [item for item in device.handle(computed(1, 1.0, 1.1, [features()])) if getattr(item, "target", "") == "up"]
    size = sum(len(frame) for frame in work.frames)
    result = Result(request_id=1, exit=1, spans=(Span(dwell_s=0.05),))
    outcome = outcome_of(device.handle(received(result, [LOGITS], at_s=1.3, source="up")))
    assert outcome.energy_joules == pytest.approx(2 * 0.1 + 1e-6 * size + size / 1e6)


def test_a_run_that_is_not_done_by_the_deadline_is_paid_for_until_then() -> None:
    """(5 - 3) W * 0.3 s, by hand; what comes after belongs to nobody's outcome."""
    device = make_device()
    device.handle(submit(1, 1.0, decision((1, 3)), deadline_s=0.3))
    outcome = outcome_of(device.handle(tick(1.3)))
    assert outcome.status == "deadline"
    assert outcome.energy_joules == pytest.approx(2 * 0.3)
    assert outcome.breakdown.compute_s[0] == pytest.approx(0.3)


def test_outcomes_share_the_radios_energy() -> None:
    """The first pays promotion and a tail; the second, within that tail, what it lengthens it by; answers restart the tail."""
    states = RadioStates(promotion_s=0.5, promotion_watts=4.0, tail_s=3.0, tail_watts=1.0, receive_slope_watts_per_byte_per_s=1e-3)
    device = make_device(radio_power=RadioPower(slope_watts_per_byte_per_s=0.0, base_watts=0.0, states=states))
    joules = []
    for request_id, at_s in ((1, 1.0), (2, 2.6)):
        device.handle(submit(request_id, at_s, decision((0, 3)), deadline_s=5.0))
        result = received(Result(request_id=request_id, exit=1, spans=(Span(),)), [LOGITS], at_s=at_s + 0.8, source="up")
        joules.append(outcome_of(device.handle(result)).energy_joules)
    # sent at 1.5 (behind its promotion), answered at 1.8, sent at 2.6, answered at 3.4, all but instants; answers have 100 bytes
    assert joules == pytest.approx([2.0 + 3.0 + 0.3 + 0.1, 0.8 + 0.8 + 0.1], abs=1e-2)


def test_the_controller_is_asked_and_obeyed() -> None:
    """Without a decision from the client the observation goes to the controller and its answer is carried out."""
    device = make_device(controller=True)
    (asked,) = sent(device.handle(submit(1, 1.0)), "controller")
    assert isinstance(asked, Observation)
    assert asked.nodes[1].backlog_s == 0.25
    assert asked.nodes[1].age_s == pytest.approx(0.4)
    (work,) = sent(device.handle(decided(1, decision((0, 3)), 1.01)), "up")
    assert isinstance(work, Work)
    assert work.stage == 0


def test_no_answer_within_the_budget_means_fallback() -> None:
    """The budget over, the fallback decides; the late answer changes nothing and is counted."""
    device = make_device(controller=True, fallback=on_device)
    device.handle(submit(1, 1.0))
    assert device.next_tick_at_s <= 1.02
    assert len(runs(device.handle(tick(1.021)))) == 1
    assert device.counters["fallbacks"] == 1
    assert sent(device.handle(decided(1, decision((0, 3)), 1.03)), "up") == []
    assert device.counters["late_decisions"] == 1
    assert outcome_of(device.handle(computed(1, 1.021, 1.1, [LOGITS]))).decided_by == "fallback"


def test_a_refusal_means_fallback_at_once() -> None:
    """A controller that will not answer says so, and nobody waits."""
    device = make_device(controller=True, fallback=on_device)
    device.handle(submit(1, 1.0))
    out = device.handle(received(Refused(request_id=1, message="draining"), at_s=1.001, source="controller"))
    assert len(runs(out)) == 1


def test_an_illegal_decision_from_the_controller_means_fallback() -> None:
    """A controller is a peer like any other: what it sends is checked."""
    device = make_device(controller=True, fallback=on_device)
    device.handle(submit(1, 1.0))
    assert len(runs(device.handle(decided(1, decision((0, 9)), 1.001)))) == 1
    assert device.counters["bad_decisions"] == 1


def test_a_silent_controller_is_no_longer_waited_for_until_it_answers() -> None:
    """After some strikes the fallback decides at once, the controller is still asked, and one answer rehabilitates it."""
    device = make_device(controller=True, fallback=on_device, max_in_flight=100)
    now = 1.0
    for request_id in range(CONTROLLER_STRIKES):
        device.handle(submit(request_id, now))
        device.handle(tick(now + 0.03))
        now += 0.04
    out = device.handle(submit(50, now))
    assert len(sent(out, "controller")) == 1
    assert device.counters["controller_down"] == 1
    device.handle(decided(50, decision((0, 3)), now + 0.001))
    device.handle(submit(51, now + 0.002))
    assert device.counters["controller_down"] == 1


def test_an_absent_controller_costs_no_wait() -> None:
    """When the socket to the controller takes nothing, the fallback decides in the same instant."""
    device = make_device(controller=True, fallback=on_device)
    device.handle(submit(1, 1.0))
    assert len(runs(device.handle(Undelivered(target="controller", request_id=1, at_s=1.0)))) == 1


def test_the_deadline_is_kept_whatever_happens_above() -> None:
    """At the deadline the client hears `deadline`; the result that comes later is counted and dropped."""
    device = make_device()
    device.handle(submit(1, 1.0, decision((0, 3)), deadline_s=0.3))
    assert device.next_tick_at_s <= 1.3
    outcome = outcome_of(device.handle(tick(1.3)))
    assert (outcome.status, outcome.latency_s) == ("deadline", pytest.approx(0.3))
    late = device.handle(received(Result(request_id=1, exit=1, spans=()), [LOGITS], at_s=1.4, source="up"))
    assert sent(late, "down") == []


def test_a_failure_from_above_reaches_the_client() -> None:
    """Status and words of the node that failed are passed on."""
    device = make_device()
    device.handle(submit(1, 1.0, decision((0, 3))))
    failure = Failure(request_id=1, status="overload", message="the edge's queue is full")
    outcome = outcome_of(device.handle(received(failure, at_s=1.1, source="up")))
    assert (outcome.status, outcome.message) == ("overload", "the edge's queue is full")


@pytest.mark.parametrize("source", ["down", "up"])
def test_decisions_are_believed_from_the_controller_only(source: Source) -> None:
    """A client or the edge cannot decide for another's request, nor refuse to."""
    device = make_device(controller=True)
    device.handle(submit(1, 1.0))
    for message in (Decided(request_id=1, decision=decision((3, 3))), Refused(request_id=1, message="no")):
        assert device.handle(received(message, at_s=1.001, source=source)) == []
    assert device.counters["unexpected"] == 2
    assert len(sent(device.handle(decided(1, decision((0, 3)), 1.002)), "up")) == 1


def test_work_is_no_request_of_a_device() -> None:
    """A node that takes the device for one above it is told so, and the device lives on."""
    device = make_device()
    (failure,) = sent(device.handle(work(5, 1.0, (3, 3), 0)), "down")
    assert isinstance(failure, Failure)
    assert (failure.request_id, failure.status) == (5, "bad_input")
    assert len(runs(device.handle(submit(5, 1.1, decision((3, 3)))))) == 1


def test_an_episode_ends_the_requests_of_the_last_one() -> None:
    """Each in one failed Outcome to whoever asked: the one that is computed, the one that waits, the one the edge has."""
    device = make_device()
    for number, cuts in enumerate([(3, 3), (3, 3), (0, 3)]):
        device.handle(msgspec.structs.replace(submit(number, 1.0, decision(cuts)), peer=b"%d" % number))
    out = device.handle(start_episode(2, 1.1))
    sends = [item for item in out if isinstance(item, Send) and item.target == "down"]
    outcomes = [message for message in sent(out, "down") if isinstance(message, Outcome)]
    assert [(send.peer, outcome.request_id) for send, outcome in zip(sends, outcomes, strict=True)] == [(b"0", 0), (b"1", 1), (b"2", 2)]
    assert {(outcome.status, outcome.message) for outcome in outcomes} == {("peer_lost", "dropped: a new episode begins")}
    for outcome in outcomes:
        assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s) == pytest.approx(0.1)
    assert sent(device.handle(computed(0, 1.0, 1.2, [LOGITS])) + device.handle(tick(9.0)), "down") == []


def test_an_episode_begins_with_payloads_of_unknown_size() -> None:
    """What the codec made of earlier pictures is forgotten: the same request commits the same bytes in every episode."""
    device, coded = make_device(), msgspec.structs.replace(decision((1, 3)), codec="topk10")

    def committed_bytes(request_id: int, at_s: float) -> float:
        device.handle(submit(request_id, at_s, coded))
        task = device._tasks[request_id]
        assert isinstance(task, DeviceTask)
        return device.observe(task, at_s).links[0].outstanding_bytes

    first = committed_bytes(1, 1.0)
    device.handle(computed(1, 1.0, 1.1, [features()]))
    device.handle(received(Ack(request_id=1), at_s=1.2, source="up"))
    device.handle(received(Result(request_id=1, exit=1, spans=(Span(),)), [LOGITS], at_s=1.2, source="up"))
    assert committed_bytes(2, 1.3) != first
    device.handle(computed(2, 1.3, 1.4, [features()]))
    device.handle(start_episode(2, 1.5))
    probe_bytes = device._up.outstanding_bytes if device._up is not None else 0
    assert committed_bytes(3, 1.6) == first + probe_bytes


def test_a_request_has_its_whole_decision_budget_though_its_id_comes_again() -> None:
    """The first one's budget of 20 ms ends 10 ms after the second asks: that one is still waited for."""
    device = make_device(controller=True, fallback=on_device)
    device.handle(submit(1, 1.0))
    device.handle(decided(1, decision((3, 3)), 1.002))
    device.handle(computed(1, 1.002, 1.005, [LOGITS]))
    device.handle(submit(1, 1.01))
    assert runs(device.handle(tick(1.02))) == []
    assert len(runs(device.handle(tick(1.03)))) == 1
    assert device.counters["decision_timeouts"] == 1


def test_too_many_in_flight_is_overload_at_once() -> None:
    """The device bounds what it has accepted."""
    device = make_device(max_in_flight=1)
    device.handle(submit(1, 1.0, decision((3, 3))))
    assert outcome_of(device.handle(submit(2, 1.0, decision((3, 3))))).status == "overload"


@pytest.mark.parametrize(
    ("message", "tensors", "words"),
    [
        (Submit(request_id=1, model="other", deadline_s=1.0), [image()], "not loaded here"),
        (Submit(request_id=1, model="tiny", deadline_s=1.0), [np.zeros((1, 1, 3, 3), np.uint8)], "carries uint8[1, 1, 2, 2]"),
        (Submit(request_id=1, model="tiny", deadline_s=1.0), [np.zeros((1, 1, 2, 2), np.float32)], "got float32"),
        (Submit(request_id=1, model="tiny", deadline_s=1.0), [], "got nothing"),
        (Submit(request_id=1, model="tiny", deadline_s=1.0, decision=decision((1, 7))), [image()], "go past exit"),
        (Submit(request_id=1, model="tiny", deadline_s=1.0, decision=decision((0, 0), exit=5)), [image()], "does not exist"),
    ],
)
def test_bad_input_is_one_clear_answer(message: Submit, tensors: list[np.ndarray], words: str) -> None:
    """Wrong model, shape, dtype, number of tensors, cuts or exit: status bad_input, and what was wrong."""
    device = make_device()
    outcome = outcome_of(device.handle(received(message, tensors, at_s=1.0)))
    assert outcome.status == "bad_input"
    assert words in outcome.message
    assert len(runs(device.handle(submit(2, 1.0, decision((3, 3)))))) == 1


def test_a_non_finite_answer_is_a_failure() -> None:
    """Logits that are not finite are never turned into a class."""
    device = make_device()
    device.handle(submit(1, 1.0, decision((3, 3))))
    bad = np.full((1, 3), np.nan, dtype=np.float32)
    assert outcome_of(device.handle(computed(1, 1.0, 1.1, [bad]))).status == "internal"


@pytest.mark.parametrize("exit", [-1, 2])
def test_an_answer_of_an_exit_that_is_not_there_is_a_failure(exit: int) -> None:
    """A peer may claim any exit; only the model's own are believed."""
    device = make_device()
    device.handle(submit(1, 1.0, decision((1, 3))))
    device.handle(computed(1, 1.0, 1.1, [features()]))
    result = Result(request_id=1, exit=exit, spans=(Span(dwell_s=0.05),))
    assert outcome_of(device.handle(received(result, [LOGITS], at_s=1.3, source="up"))).status == "internal"


def test_a_model_without_classes_answers_without_a_prediction() -> None:
    """A generator's request ends well when its output has the size that the manifest says; nothing is predicted."""
    device = make_device()
    device.models = HostedModels([msgspec.structs.replace(tiny_manifest(), classes=())])
    device.handle(submit(1, 1.0, decision((3, 3))))
    outcome = outcome_of(device.handle(computed(1, 1.0, 1.1, [LOGITS])))
    assert (outcome.status, outcome.exit, outcome.prediction, outcome.confidence) == ("ok", 1, None, None)


@pytest.mark.parametrize("wanted", [False, True])
def test_the_output_follows_the_outcome_when_they_are_wanted(wanted: bool) -> None:
    """The exit's tensor goes to a client that asks for it, unchanged; nobody else hears it."""
    device = make_device()
    message = Submit(request_id=1, model="tiny", deadline_s=1.0, decision=decision((3, 3)), with_output=wanted)
    device.handle(received(message, [image()], at_s=1.0))
    (answer,) = device.handle(computed(1, 1.0, 1.1, [LOGITS]))
    assert isinstance(answer, Send)
    _, tensors = from_frames(answer.frames)
    assert [tensor.tolist() for tensor in tensors] == ([LOGITS.tolist()] if wanted else [])


def test_observation_counts_own_requests_and_bytes() -> None:
    """num_own per tier and bytes still to cross, acknowledged ones taken off."""
    device = make_device(controller=True, max_in_flight=9)
    device.handle(submit(1, 1.0, decision((1, 2))))
    device.handle(submit(2, 1.0, decision((3, 3))))
    (observation,) = sent(device.handle(submit(3, 1.1)), "controller")
    assert isinstance(observation, Observation)
    assert [node.num_own for node in observation.nodes] == [2, 1, 1]
    assert observation.links[0].outstanding_bytes > 16
    assert observation.links[1].outstanding_bytes > 16
    assert observation.num_in_flight == 2


def test_arrival_rate_follows_its_definition() -> None:
    """rate <- rate * exp(-gap / T) + 1 / T, by hand for three arrivals."""
    device = make_device(controller=True, max_in_flight=9)
    for request_id, at_s in enumerate((1.0, 1.5)):
        device.handle(submit(request_id, at_s))
    (observation,) = sent(device.handle(submit(7, 2.0)), "controller")
    decay = np.exp(-0.5 / ARRIVAL_SMOOTHING_S)
    assert isinstance(observation, Observation)
    assert observation.arrival_rate_per_s == pytest.approx((decay + 1) * decay + 1)


def test_without_an_edge_the_device_still_decides() -> None:
    """No upstream at all: reachable is false for edge and cloud and the fallback serves."""
    device = make_device(upstream=False, fallback=on_device)
    assert len(runs(device.handle(submit(1, 1.0)))) == 1


@given(steps=st.lists(st.floats(1e-4, 0.05), min_size=6, max_size=6), dwell=st.floats(0.0, 1.0))
def test_the_breakdown_tiles_the_latency(steps: list[float], dwell: float) -> None:
    """Whatever the times, the parts of a three-tier request sum to its latency exactly."""
    device: DeviceMachine = make_device(controller=True)
    at = [1.0]
    for step in steps:
        at.append(at[-1] + step)
    device.handle(submit(1, at[0], deadline_s=5.0))
    device.handle(decided(1, decision((1, 2)), min(at[1], at[0] + 0.019)))
    device.handle(computed(1, at[2], at[3], [features()]))
    waited = at[5] - at[3]
    edge_dwell = waited * dwell
    spans = (
        Span(queue_s=edge_dwell * 0.1, compute_s=edge_dwell * 0.2, dwell_s=edge_dwell, upstream_s=edge_dwell * 0.5),
        Span(queue_s=0.0, compute_s=edge_dwell * 0.3, dwell_s=edge_dwell * 0.4),
    )
    outcome = outcome_of(device.handle(received(Result(request_id=1, exit=1, spans=spans), [LOGITS], at_s=at[5], source="up")))
    assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s, abs=1e-9)
    assert outcome.latency_s == pytest.approx(at[5] - at[0])


@pytest.mark.parametrize("ends_at", ["asking", "waiting", "computing", "above"])
def test_failed_requests_tile_too(ends_at: str) -> None:
    """A deadline during any phase leaves parts that sum to the time it took."""
    device = make_device(controller=True, max_in_flight=9)
    device._decision_budget_s = 9.0
    if ends_at == "waiting":
        device.handle(submit(9, 1.0, decision((3, 3)), deadline_s=9.0))
    device.handle(submit(1, 1.0, deadline_s=0.3))
    if ends_at != "asking":
        device.handle(decided(1, decision((0, 3)) if ends_at == "above" else decision((3, 3)), 1.1))
    outcome = outcome_of(device.handle(tick(1.31)))
    assert outcome.status == "deadline"
    assert outcome.breakdown.total_s() == pytest.approx(0.31)
