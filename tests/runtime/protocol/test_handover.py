"""Edges that hand work to each other: whom they choose, what they take back, and that every request ends once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidConfig
from runtime.links import EmulatedLink
from runtime.messages import (
    Ack,
    Breakdown,
    EpisodeStarted,
    Failure,
    LinkView,
    Measure,
    Message,
    NodeTelemetry,
    Outcome,
    Ping,
    Pong,
    Result,
    Span,
    StartEpisode,
    StatusQuery,
    StatusReport,
    Work,
)
from runtime.protocol.connection import Connection
from runtime.protocol.downstream import Downstream
from runtime.protocol.edge_machine import EdgeMachine
from runtime.protocol.events import Event, Instruction, Received, Run, RunMeasure, Send, Undelivered
from runtime.protocol.handover import HandoverConfig, choose, finish_there_s
from runtime.protocol.hosted_models import HostedModels
from runtime.rates import ConstantRate
from tests.runtime import protocol_helpers as make
from tests.runtime.protocol_helpers import LOGITS, computed, decision, features, image, received, runs, sent, tick, work

LEFT, RIGHT = b"left", b"right"
ON = HandoverConfig(margin_s=0.005)
JOB_S = 0.031
"""What the whole tiny model takes: three stages and a head."""
WAY_S = 164e-6
"""A picture of 4 bytes and its header over a link of 1 MB/s."""


def make_edge(
    *names: bytes, handover: HandoverConfig | None = ON, max_waiting: int = 4, make_beside: Callable[[], EmulatedLink] | None = None
) -> EdgeMachine:
    """An edge with a cloud above it and idle neighbours beside."""
    edge = EdgeMachine(
        make.make_identity("edge", max_waiting=max_waiting),
        HostedModels([make.tiny_manifest()]),
        Connection(None, period_s=0.1, timeout_s=1.0),
        Downstream(None, make_beside),
        neighbours={name: Connection(None, 0.1, 1.0, "neighbour", name) for name in names},
        handover=handover,
    )
    make.hear_from_above(edge, 0.9)
    for name in names:
        report(edge, name, 0.9)
    return edge


def beside(message: Message, name: bytes, at_s: float, tensors: list[np.ndarray] | None = None) -> Received:
    """A message of a neighbour's."""
    return received(message, tensors, at_s=at_s, source="neighbour", peer=name)


def report(edge: EdgeMachine, name: bytes, at_s: float, backlog_s: float = 0.0) -> None:
    """A neighbour says how it is."""
    edge.handle(beside(Pong(sequence=0, nodes=(NodeTelemetry(tier="edge", backlog_s=backlog_s),)), name, at_s))


def given_to(out: list[Instruction]) -> list[tuple[bytes, int]]:
    """(neighbour, request) of all work that is handed over."""
    sends = [item for item in out if isinstance(item, Send) and item.target == "neighbour"]
    pairs = zip(sends, sent(out, "neighbour"), strict=True)
    return [(send.peer, message.request_id) for send, message in pairs if isinstance(message, Work)]


def busy_edge(*names: bytes) -> EdgeMachine:
    """Its worker has begun request 0 at 1.0."""
    edge = make_edge(*names)
    assert [run.request_id for run in runs(edge.handle(work(0, 1.0, (0, 3), 0, budget_s=9.0)))] == [0]
    return edge


def handing_edge() -> EdgeMachine:
    """It has handed request 1 to LEFT at 1.0, with half a second left, and computes request 0."""
    edge = busy_edge(LEFT)
    assert given_to(edge.handle(work(1, 1.0, (0, 3), 0, budget_s=0.5))) == [(LEFT, 1)]
    return edge


def answer(request_id: int, *spans: Span) -> Result:
    return Result(request_id=request_id, exit=1, spans=spans)


def ends(out: list[Instruction]) -> list[Result | Failure]:
    """Answers that go down."""
    return [message for message in sent(out, "down") if isinstance(message, Result | Failure)]


def only_end(out: list[Instruction]) -> Result | Failure:
    (end,) = ends(out)
    return end


# ---------------------------------------------------------------- the rule


def test_a_neighbours_finish_is_the_later_of_way_and_wait_then_compute_then_the_way_back() -> None:
    """10 kB behind 10 kB at 1 MB/s and 10 ms delay arrive after 30 ms; 50 ms of waiting hide that, 5 ms do not."""
    link = LinkView(rate_bytes_per_s=1e6, delay_s=0.01, outstanding_bytes=10_000, age_s=0.0)
    assert finish_there_s(link, 10_000, wait_s=0.05, expected_s=0.02) == pytest.approx(0.05 + 0.02 + 0.01)
    assert finish_there_s(link, 10_000, wait_s=0.005, expected_s=0.02) == pytest.approx(0.03 + 0.02 + 0.01)


@given(
    here_s=st.floats(0, 10),
    there_s=st.dictionaries(st.binary(min_size=1, max_size=2), st.floats(0, 10) | st.just(math.inf), max_size=4),
    margin_s=st.floats(0, 1),
)
def test_only_the_first_to_be_done_is_chosen_and_only_with_the_margin(here_s: float, there_s: dict[bytes, float], margin_s: float) -> None:
    """Whoever is chosen is the soonest and beats us by the margin; nobody is chosen when nobody does."""
    chosen = choose(here_s, there_s, margin_s)
    soonest_s = min(there_s.values(), default=math.inf)
    assert (chosen is not None) == (soonest_s + margin_s < here_s)
    assert chosen is None or there_s[chosen] == soonest_s


@pytest.mark.parametrize("margin_s", [-0.001, math.inf, math.nan])
def test_a_margin_is_a_time(margin_s: float) -> None:
    """Negative, infinite or no number is refused."""
    with pytest.raises(InvalidConfig, match="margin_s"):
        HandoverConfig(margin_s=margin_s)


# ---------------------------------------------------------------- choosing


def test_an_idle_edge_does_its_work_itself() -> None:
    """A neighbour that is as idle is further away."""
    out = make_edge(LEFT).handle(work(1, 1.0, (0, 3), 0))
    assert given_to(out) == []
    assert len(runs(out)) == 1


def test_a_busy_edge_hands_on_what_it_was_given_and_marks_it() -> None:
    """Same request, decision and stage, the time that is left, and the mark that forbids handing it on."""
    edge = busy_edge(LEFT)
    out = edge.handle(work(1, 1.0, (0, 3), 0, budget_s=0.5))
    assert [type(message) for message in sent(out, "down")] == [Ack]
    assert sent(out, "neighbour") == [Work(request_id=1, decision=decision((0, 3)), stage=0, budget_s=0.5, handed_over=True)]
    assert runs(out) == []
    assert edge.counters["handed_over"] == 1


@pytest.mark.parametrize(("backlog_s", "handed"), [(JOB_S - 0.0051, True), (JOB_S - 0.0049, False)])
def test_the_margin_decides(backlog_s: float, handed: bool) -> None:
    """Here: 31 ms of waiting.  There: a backlog that ends before or after the margin of 5 ms."""
    edge = busy_edge(LEFT)
    report(edge, LEFT, 1.0, backlog_s)
    assert bool(given_to(edge.handle(work(1, 1.0, (0, 3), 0)))) == handed


def test_reports_grow_old() -> None:
    """A backlog of 80 ms reported 60 ms ago is one of 20 ms now, 11 less than here."""
    edge = make_edge(LEFT)
    report(edge, LEFT, 1.0, 0.08)
    edge.handle(work(0, 1.06, (0, 3), 0))
    assert given_to(edge.handle(work(1, 1.06, (0, 3), 0))) == [(LEFT, 1)]


def test_what_was_given_since_the_last_report_counts() -> None:
    """Two idle neighbours get one each, and then it is no better there than here; no report has come meanwhile."""
    edge = busy_edge(LEFT, RIGHT)
    out = [edge.handle(work(request_id, 1.0, (0, 3), 0)) for request_id in (1, 2, 3)]
    assert [given_to(each) for each in out] == [[(LEFT, 1)], [(RIGHT, 2)], []]


def test_what_arrived_before_a_report_is_in_it() -> None:
    """Acknowledged and then reported idle: it is done already.  Reported idle before it came: it is still to do."""
    for order, expected in (("ack, report", [(LEFT, 2)]), ("report, ack", [])):
        edge = busy_edge(LEFT)
        edge.handle(work(1, 1.0, (0, 3), 0))
        if order == "report, ack":
            report(edge, LEFT, 1.0)
        edge.handle(beside(Ack(request_id=1), LEFT, 1.0))
        if order == "ack, report":
            report(edge, LEFT, 1.0)
        assert given_to(edge.handle(work(2, 1.0, (0, 3), 0))) == expected, order


def test_silent_unknown_and_unwanted_neighbours_get_nothing() -> None:
    """One not heard of for a second; none at all; hand-over switched off."""
    silent = busy_edge(LEFT)
    silent.handle(tick(1.9))
    for edge, at_s in ((silent, 2.0), (busy_edge(), 1.0), (make_edge(LEFT, handover=None), 1.0)):
        out = [*edge.handle(work(1, at_s, (0, 3), 0)), *edge.handle(work(2, at_s, (0, 3), 0))]
        assert given_to(out) == []


def test_relayed_work_and_measurements_stay() -> None:
    """What the edge only passes up goes up from here; what is to be measured here is."""
    edge = busy_edge(LEFT)
    relayed = edge.handle(work(1, 1.0, (0, 0), 0))
    assert (len(sent(relayed, "up")), given_to(relayed)) == (1, [])
    measure = Measure(request_id=9, model="tiny", variant="fp32", start=0, stop=3, exit=1, repeats=1)
    assert given_to(edge.handle(received(measure, at_s=1.0))) == []
    later = edge.handle(computed(0, 1.0, 1.1, [LOGITS]))
    assert [item.request_id for item in later if isinstance(item, RunMeasure)] == [9]


def test_a_full_queue_is_no_end_where_a_neighbour_has_room() -> None:
    """Handed over in place of refused."""
    edge = make_edge(LEFT, max_waiting=1)
    report(edge, LEFT, 1.0, 1.0)
    for request_id in (1, 2):
        edge.handle(work(request_id, 1.0, (0, 3), 0))
    report(edge, LEFT, 1.0, 0.0)
    assert given_to(edge.handle(work(3, 1.0, (0, 3), 0))) == [(LEFT, 3)]


# ---------------------------------------------------------------- one hop


def handed(request_id: int, at_s: float, cuts: tuple[int, int] = (0, 3)) -> Received:
    """Work from a neighbour."""
    message = Work(request_id=request_id, decision=decision(cuts), stage=cuts[0], budget_s=9.0, handed_over=True)
    return received(message, [image()], at_s=at_s, peer=b"neighbour")


def test_work_crosses_sideways_once() -> None:
    """However busy, what a neighbour gave is done here, and then goes on upwards with its mark."""
    edge = busy_edge(LEFT)
    assert given_to(edge.handle(handed(1, 1.0, (0, 2)))) == []
    (run,) = runs(edge.handle(computed(0, 1.0, 1.1, [LOGITS])))
    assert run.request_id == 1
    (up,) = sent(edge.handle(computed(1, 1.1, 1.2, [features()])), "up")
    assert isinstance(up, Work)
    assert up.handed_over
    assert edge.counters["from_neighbours"] == 1


def test_answers_to_a_neighbour_take_the_neighbour_link() -> None:
    """Its pings say who it is: acknowledgement, report and answer are delayed as that link is."""
    edge = make_edge(make_beside=lambda: EmulatedLink(ConstantRate(), 0.02, 0.0, "neighbour", "down"))
    ping = edge.handle(received(Ping(sequence=1, beside=True), at_s=1.0, peer=b"neighbour"))
    taken = edge.handle(handed(1, 1.1))
    done = edge.handle(computed(1, 1.1, 1.2, [LOGITS]))
    for out, at_s in ((ping, 1.0), (taken, 1.1), (done, 1.2)):
        (send,) = [item for item in out if isinstance(item, Send)]
        assert (send.target, send.peer) == ("down", b"neighbour")
        assert at_s + 0.02 <= send.release_at_s < at_s + 0.021
    (own,) = [item for item in edge.handle(work(2, 2.0, (0, 3), 0)) if isinstance(item, Send)]
    assert own.release_at_s == 0.0


# ---------------------------------------------------------------- the answer


THEIRS = Span(
    queue_s=0.01, compute_s=0.03, codec_s=0.002, dwell_s=0.1, upstream_s=0.05, sent_bytes=7, returned_bytes=8, reuse_s=0.003, batch=2
)
CLOUDS = Span(compute_s=0.02, dwell_s=0.03)


def test_the_answer_comes_back_the_same_way_with_the_times_of_both() -> None:
    """150 ms after it left, 100 of them there: 50 ms on the way; one span for the edge tier, then the cloud's."""
    edge = handing_edge()
    end = only_end(edge.handle(beside(answer(1, THEIRS, CLOUDS), LEFT, 1.15, [LOGITS])))
    assert isinstance(end, Result)
    own, cloud = end.spans
    assert cloud == CLOUDS
    assert (own.queue_s, own.compute_s, own.codec_s, own.reuse_s, own.upstream_s) == pytest.approx((0.01, 0.03, 0.002, 0.003, 0.05))
    assert (own.dwell_s, own.handover_s) == pytest.approx((0.15, 0.05))
    assert (own.sent_bytes, own.returned_bytes, own.batch, own.handed_over) == (7, 8, 2, True)
    assert own.handover_bytes[0] > 100
    assert own.handover_bytes[1] == 100
    assert edge.counters["handovers_answered"] == 1


def test_the_parts_of_a_handed_over_request_tile_its_latency() -> None:
    """On the device: where it was computed, what crossed between the edges, and nothing counted twice."""
    result = only_end(handing_edge().handle(beside(answer(1, THEIRS, CLOUDS), LEFT, 1.15, [LOGITS])))
    device = make.make_device()
    device.handle(make.submit(1, 1.0, decision((0, 2))))
    (outcome,) = sent(device.handle(received(result, [LOGITS], at_s=1.25, source="up")), "down")
    assert isinstance(outcome, Outcome)
    parts = outcome.breakdown
    assert parts.total_s() == pytest.approx(outcome.latency_s) == pytest.approx(0.25)
    assert parts.handover_s == pytest.approx(0.05)
    assert parts.transfer_s == pytest.approx((0.1, 0.02))
    assert parts.serialise_s == pytest.approx((0.0, 0.1 - 0.01 - 0.03 - 0.002 - 0.05 - 0.003, 0.01))
    assert outcome.handed_over
    assert outcome.handover_bytes[1] == 100
    assert Breakdown(handover_s=1.0).total_s() == 1.0


@pytest.mark.parametrize("spans", [(), (Span(dwell_s=99.0),)])
def test_spans_that_cannot_be_do_no_harm(spans: tuple[Span, ...]) -> None:
    """A neighbour that tells no times, or more than have passed: the answer goes down all the same."""
    end = only_end(handing_edge().handle(beside(answer(1, *spans), LEFT, 1.15, [LOGITS])))
    assert isinstance(end, Result)
    assert end.spans[0].handover_s >= 0


# ---------------------------------------------------------------- taking back


@pytest.mark.parametrize("status", ["overload", "deadline", "peer_lost", "bad_input", "internal"])
def test_what_a_neighbour_refuses_is_done_here(status: str) -> None:
    """Taken back for whatever reason, and not handed over a second time; the time it cost is told apart."""
    edge = handing_edge()
    out = edge.handle(beside(Failure(request_id=1, status=status, message="no"), LEFT, 1.05))  # type: ignore[arg-type]
    assert (ends(out), given_to(out), edge.counters["taken_back"]) == ([], [], 1)
    (run,) = runs(edge.handle(computed(0, 1.0, 1.1, [LOGITS])))
    assert run.request_id == 1
    end = only_end(edge.handle(computed(1, 1.1, 1.2, [LOGITS])))
    assert isinstance(end, Result)
    (span,) = end.spans
    assert (span.handover_s, span.queue_s, span.compute_s, span.dwell_s) == pytest.approx((0.05, 0.05, 0.1, 0.2))
    assert not span.handed_over


def test_a_refused_send_is_taken_back_at_once() -> None:
    """The socket took nothing: the request waits here."""
    edge = handing_edge()
    assert ends(edge.handle(Undelivered(target="neighbour", request_id=1, at_s=1.0))) == []
    assert [run.request_id for run in runs(edge.handle(computed(0, 1.0, 1.1, [LOGITS])))] == [1]


def test_silence_takes_everything_back() -> None:
    """A second without a word: what has time left waits here, the rest has said `deadline` before."""
    edge = handing_edge()
    edge.handle(work(2, 1.0, (0, 3), 0, budget_s=9.0))  # waits here
    edge.handle(computed(0, 1.0, 1.0, [LOGITS]))
    edge.handle(beside(Ack(request_id=1), LEFT, 1.0))
    report(edge, LEFT, 1.04)
    assert given_to(edge.handle(work(3, 1.04, (0, 3), 0, budget_s=9.0))) == []
    assert given_to(edge.handle(work(4, 1.04, (0, 3), 0, budget_s=9.0))) == [(LEFT, 4)]
    end = only_end(edge.handle(tick(2.05)))
    assert isinstance(end, Failure)
    assert (end.request_id, end.status, end.message) == (1, "deadline", "deadline passed while a neighbour of the edge had it")
    assert edge.counters["taken_back"] == 1
    assert [run.request_id for run in runs(edge.handle(computed(2, 1.0, 2.06, [LOGITS])))] == [3]
    assert [run.request_id for run in runs(edge.handle(computed(3, 2.06, 2.07, [LOGITS])))] == [4]


def test_no_time_left_is_a_deadline_and_a_full_queue_an_overload() -> None:
    """What cannot be done here either ends with the reason why."""
    late = only_end(handing_edge().handle(beside(Failure(request_id=1, status="deadline", message=""), LEFT, 1.5)))
    assert isinstance(late, Failure)
    assert (late.status, late.message) == ("deadline", "expired while a neighbour of the edge had it")
    full = make_edge(LEFT, max_waiting=1)
    full.handle(work(0, 1.0, (0, 3), 0))
    assert given_to(full.handle(work(1, 1.0, (0, 3), 0))) == [(LEFT, 1)]
    full.handle(work(2, 1.0, (0, 3), 0))
    end = only_end(full.handle(beside(Failure(request_id=1, status="overload", message=""), LEFT, 1.01)))
    assert isinstance(end, Failure)
    assert (end.request_id, end.status) == (1, "overload")


def test_a_late_answer_is_counted_and_ignored() -> None:
    """After taking it back only this node's own answer counts; so with answers for others' and for nobody's requests."""
    edge = handing_edge()
    edge.handle(beside(Failure(request_id=1, status="overload", message=""), LEFT, 1.05))
    for request_id in (0, 1, 77):
        assert ends(edge.handle(beside(answer(request_id, THEIRS), LEFT, 1.06, [LOGITS]))) == []
        assert ends(edge.handle(beside(Failure(request_id=request_id, status="internal", message=""), LEFT, 1.06))) == []
    assert edge.counters["late_handovers"] == 6
    edge.handle(computed(0, 1.0, 1.1, [LOGITS]))
    assert isinstance(only_end(edge.handle(computed(1, 1.1, 1.2, [LOGITS]))), Result)


def test_only_who_has_it_answers_for_it() -> None:
    """Another neighbour's answer to it is none."""
    edge = busy_edge(LEFT, RIGHT)
    assert given_to(edge.handle(work(1, 1.0, (0, 3), 0))) == [(LEFT, 1)]
    assert ends(edge.handle(beside(answer(1, THEIRS), RIGHT, 1.1, [LOGITS]))) == []
    assert isinstance(only_end(edge.handle(beside(answer(1, THEIRS), LEFT, 1.1, [LOGITS]))), Result)


def test_what_was_taken_back_goes_before_what_was_handed_over() -> None:
    """The cloud has it from a neighbour that fell silent when its owner sends it: the owner's is computed, with its tensors."""
    cloud = make.make_node("cloud", upstream=False)
    cloud.handle(work(9, 1.0, (0, 0), 0))
    message = Work(request_id=1, decision=decision((0, 0)), stage=0, budget_s=9.0, handed_over=True)
    cloud.handle(received(message, [image()], at_s=1.0, peer=b"neighbour"))
    own = work(1, 1.1, (0, 0), 0, peer=b"owner")
    out = cloud.handle(own)
    by_peer = {item.peer: message for item, message in zip([i for i in out if isinstance(i, Send)], sent(out, "down"), strict=True)}
    assert by_peer[b"owner"] == Ack(request_id=1)
    assert isinstance(by_peer[b"neighbour"], Failure)
    (run,) = runs(cloud.handle(computed(9, 1.0, 1.2, [LOGITS])))
    assert run.parcel is own.parcel
    done = cloud.handle(computed(1, 1.2, 1.3, [LOGITS]))
    assert [item.peer for item in done if isinstance(item, Send)] == [b"owner"]
    assert runs(done) == []


# ---------------------------------------------------------------- every request ends once


class World:
    """An edge with two neighbours and one worker, driven by random events; counts how often each request ended."""

    def __init__(self) -> None:
        self.edge = make_edge(LEFT, RIGHT)
        self.at_s = 1.0
        self.ended: dict[int, int] = {}
        self.running: list[Run] = []
        self.beside: list[tuple[bytes, int]] = []
        self.next_id = 0

    def do(self, event: Event) -> None:
        out = self.edge.handle(event)
        self.running += runs(out)
        self.beside += given_to(out)
        for end in ends(out):
            self.ended[end.request_id] += 1

    def step(self, action: str, pick: int, wait_s: float) -> None:
        self.at_s += wait_s
        if action == "work":
            self.ended[self.next_id] = 0
            self.do(work(self.next_id, self.at_s, (0, 3), 0, budget_s=0.01 + pick / 50))
            self.next_id += 1
        elif action == "computed" and self.running:
            self.do(computed(self.running.pop().request_id, self.at_s - 0.001, self.at_s, [LOGITS]))
        elif action in ("result", "failure", "undelivered", "again") and self.beside:
            name, request_id = self.beside[pick % len(self.beside)]  # not taken off: it may answer twice
            failure = Failure(request_id=request_id, status="overload", message="")
            events: dict[str, Event] = {
                "result": beside(answer(request_id, THEIRS), name, self.at_s, [LOGITS]),
                "failure": beside(failure, name, self.at_s),
                "undelivered": Undelivered(target="neighbour", request_id=request_id, at_s=self.at_s),
                "again": beside(Ack(request_id=request_id), name, self.at_s),
            }
            self.do(events[action])
        elif action == "report":
            report(self.edge, (LEFT, RIGHT)[pick % 2], self.at_s, pick / 100)
        else:
            self.do(tick(self.at_s))


ACTIONS = ("work", "computed", "result", "failure", "undelivered", "again", "report", "tick")


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20), st.sampled_from((0.0, 0.01, 0.3))), max_size=40))
def test_whatever_happens_every_request_ends_once(steps: list[tuple[str, int, float]]) -> None:
    """Answers, refusals, silence and repetitions in any order; when all deadlines have passed each request has ended once."""
    world = World()
    for _ in range(3):
        world.step("work", 10, 0.0)
    for step in steps:
        world.step(*step)
    world.at_s += 10.0
    world.do(tick(world.at_s))
    assert set(world.ended.values()) == {1}


# ---------------------------------------------------------------- reports and episodes


def test_a_status_names_the_neighbours() -> None:
    """Those that are heard of, as they say they are; telemetry downwards stays one per tier."""
    edge = make_edge(LEFT, RIGHT)
    report(edge, RIGHT, 1.5, 0.25)
    (status,) = sent(edge.handle(received(StatusQuery(request_id=1), at_s=1.95)), "down")
    assert isinstance(status, StatusReport)
    assert [node.backlog_s for node in status.neighbours] == [0.25]
    assert [node.tier for node in edge.telemetry(1.5)][:1] == ["edge"]
    assert len([node for node in status.telemetry if node.tier == "edge"]) <= 2


def test_neighbours_are_pinged_as_such() -> None:
    """Each in its own name, with the mark that makes it a neighbour's."""
    edge = make_edge(LEFT, RIGHT)
    out = [item for item in edge.handle(tick(1.0)) if isinstance(item, Send) and item.target == "neighbour"]
    assert {item.peer for item in out} == {LEFT, RIGHT}
    assert all(isinstance(message, Ping) and message.beside for message in sent(out, "neighbour"))
    assert edge.next_tick_at_s == pytest.approx(1.1)


def starting_edge() -> EdgeMachine:
    """An episode has begun for it, above and here; LEFT and RIGHT have been told and have not answered."""
    edge = make_edge(LEFT, RIGHT)
    out = edge.handle(make.start_episode(5, 1.0))
    assert [message for message in sent(out, "neighbour") if isinstance(message, StartEpisode)] == [
        StartEpisode(seed=5, starts_in_s=0.5)
    ] * 2
    (probe,) = [message for message in sent(out, "up") if isinstance(message, Ping)]
    edge.handle(received(Pong(sequence=probe.sequence, nodes=()), at_s=1.1, source="up"))
    assert sent(edge.handle(make.episode_started(5, 1.1)), "down") == []
    return edge


def test_an_episode_starts_when_the_neighbours_have_started_too() -> None:
    """The last answer counts; one of another episode does not."""
    edge = starting_edge()
    assert sent(edge.handle(beside(EpisodeStarted(seed=5), LEFT, 1.1)), "down") == []
    assert sent(edge.handle(beside(EpisodeStarted(seed=4), RIGHT, 1.1)), "down") == []
    assert sent(edge.handle(beside(EpisodeStarted(seed=5), RIGHT, 1.2)), "down") == [EpisodeStarted(seed=5)]


def test_a_lost_neighbour_does_not_keep_an_episode_from_starting() -> None:
    """Silence is an answer."""
    edge = starting_edge()
    edge.handle(beside(EpisodeStarted(seed=5), LEFT, 1.1))
    make.hear_from_above(edge, 1.8)
    assert sent(edge.handle(tick(1.95)), "down") == [EpisodeStarted(seed=5)]


def test_a_neighbour_that_is_told_leaves_telling_the_others_to_who_told_it() -> None:
    """Upwards it is passed on, sideways not; what was handed over is forgotten."""
    edge = handing_edge()
    edge.handle(received(Ping(sequence=1, beside=True), at_s=1.0, peer=b"client"))
    out = edge.handle(make.start_episode(5, 1.1))
    assert sent(out, "neighbour") == []
    assert any(isinstance(message, StartEpisode) for message in sent(out, "up"))
    assert ends(edge.handle(beside(answer(1, THEIRS), LEFT, 1.2, [LOGITS]))) == []
    assert edge.counters["late_handovers"] == 1
