"""What an edge or cloud node does with each event: literal instructions, no network."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.messages import (
    Ack,
    EpisodeStarted,
    Failure,
    Measure,
    Message,
    NodeTelemetry,
    Ping,
    Pong,
    Result,
    Span,
    StatusQuery,
    StatusReport,
    Work,
)
from runtime.protocol.events import MeasuredRun, RunMeasure, Send, Undelivered
from tests.runtime.protocol_helpers import (
    LOGITS,
    computed,
    decision,
    episode_started,
    features,
    hear_from_above,
    image,
    make_node,
    received,
    runs,
    sent,
    start_episode,
    tick,
    work,
)


def only(messages: list[object], kind: type) -> object:
    (found,) = [message for message in messages if isinstance(message, kind)]
    return found


def test_work_is_acknowledged_computed_and_answered() -> None:
    """A node that has the last stage acknowledges, runs it with the exit's head, and returns the logits with its times."""
    edge = make_node()
    out = edge.handle(work(7, 1.0, cuts=(1, 3), stage=1))
    assert isinstance(only(sent(out, "down"), Ack), Ack)
    (run,) = runs(out)
    assert (run.start, run.stop, run.exit) == (1, 3, 1)
    (answer,) = sent(edge.handle(computed(7, 1.1, 1.3, [LOGITS])), "down")
    assert isinstance(answer, Result)
    (span,) = answer.spans
    assert (span.queue_s, span.compute_s, span.dwell_s) == pytest.approx((0.1, 0.2, 0.3))


def test_work_goes_on_upwards_after_our_stages() -> None:
    """A node in the middle passes the tensors of the next cut up, with the time that is left."""
    edge = make_node()
    edge.handle(work(7, 1.0, cuts=(1, 2), stage=1, budget_s=0.5))
    out = edge.handle(computed(7, 1.0, 1.2, [features()]))
    (up,) = sent(out, "up")
    assert isinstance(up, Work)
    assert (up.stage, up.decision.cuts) == (2, (1, 2))
    assert up.budget_s == pytest.approx(0.3)


def test_a_node_without_stages_relays() -> None:
    """With p == q the edge computes nothing: the work goes up at once, the answer comes down."""
    edge = make_node()
    out = edge.handle(work(7, 1.0, cuts=(1, 1), stage=1))
    assert runs(out) == []
    assert len(sent(out, "up")) == 1
    down = sent(edge.handle(received(Result(request_id=7, exit=1, spans=(Span(dwell_s=0.1),)), [LOGITS], at_s=1.4, source="up")), "down")
    (result,) = down
    assert isinstance(result, Result)
    assert result.spans[0].upstream_s == pytest.approx(0.4)
    assert result.spans[1].dwell_s == 0.1


def test_one_runs_at_a_time_and_the_rest_wait_in_order() -> None:
    """The worker gets the next job only when it is free, first come first served."""
    edge = make_node()
    assert len(runs(edge.handle(work(1, 1.0, (0, 3), 0)))) == 1
    assert runs(edge.handle(work(2, 1.0, (0, 3), 0))) == []
    assert runs(edge.handle(work(3, 1.0, (0, 3), 0))) == []
    assert [run.request_id for run in runs(edge.handle(computed(1, 1.0, 1.1, [LOGITS])))] == [2]
    assert [run.request_id for run in runs(edge.handle(computed(2, 1.1, 1.2, [LOGITS])))] == [3]


def test_a_full_queue_refuses_with_overload() -> None:
    """Beyond max_waiting a request is told at once, not dropped."""
    edge = make_node(max_waiting=1)
    edge.handle(work(1, 1.0, (0, 3), 0))
    edge.handle(work(2, 1.0, (0, 3), 0))
    failure = only(sent(edge.handle(work(3, 1.0, (0, 3), 0)), "down"), Failure)
    assert isinstance(failure, Failure)
    assert failure.status == "overload"


def test_expired_work_is_not_started_and_says_deadline() -> None:
    """Work whose time ran out while it waited is answered with deadline and never computed."""
    edge = make_node()
    edge.handle(work(1, 1.0, (0, 3), 0))
    edge.handle(work(2, 1.0, (0, 3), 0, budget_s=0.1))
    out = edge.handle(computed(1, 1.0, 1.5, [LOGITS]))
    assert runs(out) == []
    failure = only(sent(out, "down"), Failure)
    assert isinstance(failure, Failure)
    assert (failure.request_id, failure.status) == (2, "deadline")


def test_jobs_of_ended_requests_keep_nobody_out() -> None:
    """Two requests expire behind a long job: their places are free again, for one that lives as for a measurement."""
    edge = make_node(max_waiting=2)
    edge.handle(work(1, 1.0, (0, 3), 0, budget_s=50.0))
    edge.handle(work(2, 1.0, (0, 3), 0, budget_s=5.0))
    edge.handle(work(3, 1.0, (0, 3), 0, budget_s=0.1))
    edge.handle(tick(1.2))
    assert [type(message) for message in sent(edge.handle(work(4, 1.3, (0, 3), 0, budget_s=5.0)), "down")] == [Ack]
    edge.handle(tick(8.0))
    edge.handle(work(5, 8.0, (0, 3), 0, budget_s=5.0))
    assert edge.handle(received(Measure(request_id=9, model="tiny", variant="fp32", start=0, stop=3, exit=1, repeats=3), at_s=8.1)) == []
    out = edge.handle(computed(1, 1.0, 9.0, [LOGITS]))
    assert [run.request_id for run in runs(out)] == [5]
    out = edge.handle(computed(5, 9.0, 9.1, [LOGITS]))
    assert [item.request_id for item in out if isinstance(item, RunMeasure)] == [9]


def test_backlog_counts_waiting_work_and_the_rest_of_the_running() -> None:
    """backlog_s: 31 ms each; 10 ms into the first of two, 52 ms are left."""
    edge = make_node()
    edge.handle(work(1, 1.0, (0, 3), 0))
    edge.handle(work(2, 1.0, (0, 3), 0))
    own = edge.telemetry(1.01)[0]
    assert own.backlog_s == pytest.approx(0.052)
    assert own.num_waiting == 1


def test_wrong_tensors_are_refused_and_the_node_goes_on() -> None:
    """Bad input is an answer, and leaves no trace in the queue."""
    edge = make_node()
    bad = Work(request_id=1, decision=decision((0, 3)), stage=0, budget_s=1.0)
    failure = only(sent(edge.handle(received(bad, [np.zeros(3, np.float32)], at_s=1.0)), "down"), Failure)
    assert isinstance(failure, Failure)
    assert failure.status == "bad_input"
    assert "carries uint8[1, 1, 2, 2]" in failure.message
    assert len(runs(edge.handle(work(2, 1.0, (0, 3), 0)))) == 1


@pytest.mark.parametrize(("cuts", "stage"), [((1, 3), 0), ((2, 3), 3), ((0, 2), 2)])
def test_work_at_a_stage_that_is_not_ours_is_refused(cuts: tuple[int, int], stage: int) -> None:
    """A peer cannot make a node compute what the decision gave to another tier."""
    failure = only(sent(make_node().handle(work(1, 1.0, cuts, stage)), "down"), Failure)
    assert isinstance(failure, Failure)
    assert failure.status == "bad_input"


def test_a_retry_is_not_computed_twice() -> None:
    """The same id from the same peer while unfinished does nothing; from another peer it is refused."""
    edge = make_node()
    edge.handle(work(1, 1.0, (0, 3), 0))
    assert edge.handle(work(1, 1.0, (0, 3), 0)) == []
    failure = only(sent(edge.handle(work(1, 1.0, (0, 3), 0, peer=b"stranger")), "down"), Failure)
    assert isinstance(failure, Failure)
    assert "in use" in failure.message


def test_silence_above_fails_what_is_up_there() -> None:
    """When the node above falls silent, requests it holds end with peer_lost, and new ones at once."""
    edge = make_node()
    edge.handle(work(1, 0.7, (0, 0), 0, budget_s=9.0))
    failure = only(sent(edge.handle(tick(1.7)), "down"), Failure)
    assert isinstance(failure, Failure)
    assert failure.status == "peer_lost"
    again = only(sent(edge.handle(work(2, 1.8, (0, 0), 0)), "down"), Failure)
    assert isinstance(again, Failure)
    assert again.status == "peer_lost"


def test_a_refused_send_upwards_is_peer_lost() -> None:
    """When the socket takes no more, the request hears of it now and not at its deadline."""
    edge = make_node()
    edge.handle(work(1, 0.7, (0, 0), 0))
    failure = only(sent(edge.handle(Undelivered(target="up", request_id=1, at_s=0.7)), "down"), Failure)
    assert isinstance(failure, Failure)
    assert failure.status == "peer_lost"


def test_a_late_result_is_counted_not_answered() -> None:
    """A result for a request that has ended already goes nowhere but into a counter."""
    edge = make_node()
    out = edge.handle(received(Result(request_id=5, exit=1, spans=()), [LOGITS], at_s=1.0, source="up"))
    assert sent(out, "down") == []
    assert edge.counters["late_results"] == 1


def test_pong_carries_own_and_upper_telemetry_aged() -> None:
    """A ping is answered with the node's own state first, then what it knows from above, older by now."""
    edge = make_node()
    (pong,) = sent(edge.handle(received(Ping(sequence=3), at_s=1.1)), "down")
    assert isinstance(pong, Pong)
    assert pong.sequence == 3
    assert pong.nodes[0].tier == "edge"
    assert pong.nodes[-1].tier == "cloud"
    assert pong.nodes[-1].age_s == pytest.approx(0.55)


def test_pings_keep_their_period() -> None:
    """One ping per period, also when a tick came late."""
    edge = make_node()
    hear_from_above(edge, 10.0)
    assert len([m for m in sent(edge.handle(tick(10.0)), "up") if isinstance(m, Ping)]) >= 1
    assert sent(edge.handle(tick(10.05)), "up") == []
    assert len(sent(edge.handle(tick(10.35)), "up")) == 1
    assert edge.next_tick_at_s == pytest.approx(10.4)


def test_episode_starts_once_everyone_above_has_and_the_link_is_measured() -> None:
    """EpisodeStarted goes down only after the one from above and the probe's answer."""
    edge = make_node()
    out = edge.handle(start_episode(5, 1.0))
    pings = [m for m in sent(out, "up") if isinstance(m, Ping)]
    assert sent(edge.handle(episode_started(5, 1.1)), "down") == []
    down = sent(edge.handle(received(Pong(sequence=pings[0].sequence, nodes=()), at_s=1.2, source="up")), "down")
    assert down == [EpisodeStarted(seed=5)]


def test_episode_start_forgets_unfinished_requests() -> None:
    """What an old episode left behind is not computed in the new one."""
    cloud = make_node("cloud", upstream=False)
    cloud.handle(work(1, 1.0, (0, 0), 0))
    cloud.handle(work(2, 1.0, (0, 0), 0))
    assert EpisodeStarted(seed=1) in sent(cloud.handle(start_episode(1, 1.1)), "down")
    assert runs(cloud.handle(computed(1, 1.0, 1.2, [LOGITS]))) == []


def test_measure_queues_behind_work_and_answers() -> None:
    """Timing a segment is a job like any other; an impossible one is refused."""
    edge = make_node()
    measure = Measure(request_id=9, model="tiny", variant="fp32", start=0, stop=2, exit=0, repeats=3)
    (job,) = [item for item in edge.handle(received(measure, at_s=1.0)) if isinstance(item, RunMeasure)]
    assert (job.start, job.stop, job.exit, job.repeats) == (0, 2, 0, 3)
    wrong = Measure(request_id=10, model="tiny", variant="fp32", start=0, stop=3, exit=0, repeats=3)
    failure = only(sent(edge.handle(received(wrong, at_s=1.0)), "down"), Failure)
    assert isinstance(failure, Failure)
    assert "follows stage 2" in failure.message


def test_an_episode_refuses_measurements_that_wait() -> None:
    """The one that runs is answered when it is done; those behind it are told that they never will be."""
    edge = make_node()
    first, second = (Measure(request_id=number, model="tiny", variant="fp32", start=0, stop=3, exit=1, repeats=3) for number in (8, 9))
    edge.handle(received(first, at_s=1.0, peer=b"first"))
    edge.handle(received(second, at_s=1.0, peer=b"second"))
    out = edge.handle(start_episode(2, 1.1))
    (send,) = [item for item in out if isinstance(item, Send) and item.target == "down"]
    assert send.peer == b"second"
    (failure,) = sent(out, "down")
    assert isinstance(failure, Failure)
    assert (failure.request_id, failure.status) == (9, "peer_lost")
    (answer,) = edge.handle(MeasuredRun(request_id=8, tier_s=(0.1,), host_s=(0.1,), error="", at_s=1.2))
    assert isinstance(answer, Send)
    assert answer.peer == b"first"


def test_a_measurement_is_answered_to_its_own_asker() -> None:
    """Another that comes with its id is refused; the same again is nothing new."""
    edge = make_node()
    measure = Measure(request_id=9, model="tiny", variant="fp32", start=0, stop=2, exit=0, repeats=3)
    edge.handle(received(measure, at_s=1.0, peer=b"first"))
    assert edge.handle(received(measure, at_s=1.0, peer=b"first")) == []
    failure = only(sent(edge.handle(received(measure, at_s=1.0, peer=b"second")), "down"), Failure)
    assert isinstance(failure, Failure)
    assert "in use" in failure.message


@pytest.mark.parametrize(
    "message",
    [
        Ack(request_id=1),
        Failure(request_id=1, status="internal", message="not so"),
        Result(request_id=1, exit=1, spans=(Span(),)),
        Pong(sequence=1, nodes=(NodeTelemetry(tier="cloud", backlog_s=9.0),)),
        EpisodeStarted(seed=2),
    ],
)
def test_answers_are_believed_from_above_only(message: Message) -> None:
    """Whoever is below cannot end another's request, acknowledge it, tell of the cloud, or say that an episode has begun."""
    edge = make_node()
    edge.handle(start_episode(2, 0.9))
    edge.handle(work(1, 1.0, (0, 0), 0))
    known = edge.telemetry(1.1)
    tensors = [LOGITS] if isinstance(message, Result) else []
    assert edge.handle(received(message, tensors, at_s=1.1, peer=b"stranger")) == []
    assert edge.telemetry(1.1) == known
    assert edge.counters["unexpected"] == 1
    answer = edge.handle(received(Result(request_id=1, exit=1, spans=(Span(),)), [LOGITS], at_s=1.2, source="up"))
    assert isinstance(only(sent(answer, "down"), Result), Result)


@pytest.mark.parametrize("late", [Result(request_id=7, exit=1, spans=(Span(),)), Failure(request_id=7, status="overload", message="")])
def test_what_is_late_answers_no_other_request_that_waits_here(late: Result | Failure) -> None:
    """Request 7 expired while the cloud had it; another 7 that has not gone up yet is not what the cloud answers."""
    edge = make_node()
    edge.handle(work(7, 1.0, (0, 0), 0, budget_s=0.1))
    edge.handle(tick(1.2))
    edge.handle(work(7, 1.3, (0, 3), 0, peer=b"another"))
    tensors = [LOGITS] if isinstance(late, Result) else []
    assert edge.handle(received(late, tensors, at_s=1.31, source="up")) == []
    assert isinstance(only(sent(edge.handle(computed(7, 1.3, 1.4, [LOGITS])), "down"), Result), Result)


def test_status_tells_who_it_is() -> None:
    """StatusQuery is answered to whoever asked."""
    out = make_node().handle(received(StatusQuery(request_id=4), at_s=1.0, peer=b"someone"))
    (send,) = [item for item in out if isinstance(item, Send)]
    assert send.peer == b"someone"
    (status,) = sent(out, "down")
    assert isinstance(status, StatusReport)
    assert (status.tier, status.emulated, status.models) == ("edge", False, ("tiny",))


def test_images_are_not_needed_twice() -> None:
    """The input of relayed work is given on and not kept."""
    edge = make_node()
    edge.handle(work(1, 1.0, (0, 0), 0))
    assert edge._tasks[1].parcel.frames == ()
    assert image().shape == (1, 1, 2, 2)


def test_a_request_that_has_ended_wakes_nobody() -> None:
    """Its deadline passes without a tick; those of others still come."""
    cloud = make_node("cloud", upstream=False)
    cloud.handle(work(1, 1.0, cuts=(1, 1), stage=1, budget_s=0.5))
    cloud.handle(work(2, 1.1, cuts=(1, 1), stage=1, budget_s=0.7))
    assert cloud.next_tick_at_s == pytest.approx(1.5)
    cloud.handle(computed(1, 1.0, 1.2, [LOGITS]))
    assert cloud.next_tick_at_s == pytest.approx(1.8)
    cloud.handle(computed(2, 1.2, 1.3, [LOGITS]))
    assert cloud.next_tick_at_s == float("inf")
