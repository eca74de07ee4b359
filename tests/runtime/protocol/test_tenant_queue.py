"""The compute queue of several tenants: like the plain one with one tenant, and its refusals with more."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidConfig
from runtime.inference.batching import BatchingConfig
from runtime.inference.tenancy import Refusal, TenancyConfig, TenantConfig
from runtime.protocol.tenant_queue import TenantBacklog, TenantQueue
from tests.runtime.fifo_queue import FifoQueue
from tests.runtime.queue_simulation import KEY, Arrival, Fate, measure, run, simulate

SECONDS = st.integers(1, 64).map(lambda sixteenths: sixteenths / 16)
TWO = TenancyConfig(tenants=(TenantConfig(name="a"), TenantConfig(name="b")))


def reason(refusal: Refusal | None) -> str | None:
    """Its reason, if it is one."""
    return refusal.reason if refusal is not None else None


CREDITS = st.sampled_from([0.0, TenancyConfig().credit_s, 5.0])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), SECONDS, st.one_of(st.just(math.inf), SECONDS), st.booleans()),
        st.tuples(st.just("start"), SECONDS),
        st.tuples(st.just("finish"), SECONDS),
        st.tuples(st.just("clear"), SECONDS),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 6), CREDITS)
def test_one_tenant_is_first_come_first_served(steps: list[tuple[object, ...]], max_waiting: int, credit_s: float) -> None:
    """Whatever is done to both, the queue of one tenant answers as the plain one does, measurements included."""
    plain, queue = FifoQueue(max_waiting), TenantQueue(max_waiting, TenancyConfig(credit_s=credit_s))
    at_s = 0.0
    for number, (kind, seconds, *rest) in enumerate(steps):
        assert isinstance(seconds, float)
        if kind == "offer":
            left_s, timed = rest
            assert isinstance(left_s, float)
            job = measure(number) if timed else run(number)
            assert plain.offer(job, seconds, at_s + left_s) == (queue.offer(job, seconds, at_s + left_s, at_s=at_s) is None)
        elif kind == "start":
            job_or_none, expired = plain.start_next(at_s)
            assert queue.start_next(at_s) == ([job_or_none] if job_or_none is not None else [], expired)
        elif kind == "finish":
            plain.finished()
            queue.finished()
        else:
            plain.clear_waiting()
            queue.clear_waiting()
        at_s += seconds if kind in ("start", "finish") else 0.0
        assert queue.num_waiting == plain.num_waiting
        assert queue.backlog_s(at_s) == queue.expected_wait_s("", at_s) == plain.backlog_s(at_s)
        assert queue.next_start_at_s == math.inf


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        at_s=st.integers(0, 400).map(lambda sixteenths: sixteenths / 16),
        seconds=st.just(1.0),
        tenant=st.sampled_from(["a", "b", "c", "stranger"]),
        left_s=st.one_of(st.just(math.inf), SECONDS),
        remainder_s=st.sampled_from([0.0, 0.5]),
        key=st.sampled_from([None, KEY, "other"]),
    ),
    max_size=60,
)
CONFIGS = st.builds(
    TenancyConfig,
    tenants=st.just(
        (
            TenantConfig(name="a", weight=3),
            TenantConfig(name="b", rate_s_per_s=0.5, burst_s=4.0),
            TenantConfig(name="c", rate_requests_per_s=1.0, burst_requests=3.0, deadline_s=3.0, max_waiting=2),
        )
    ),
    admission=st.booleans(),
    credit_s=CREDITS,
)
BATCHING = st.builds(
    BatchingConfig, max_batch=st.integers(1, 5), max_hold_s=st.sampled_from([0.0, 0.5]), max_stretch_s=st.sampled_from([0.0, 0.7, 9.0])
)


def affine(rows: int) -> float:
    """1 s alone, of which 0.4 s are fixed."""
    return 0.4 + 0.6 * rows


def ends(fate: Fate) -> list[bool]:
    """The ways in which it may have ended."""
    return [fate.refused is not None, not math.isnan(fate.expired_at_s), not math.isnan(fate.started_at_s)]


@given(ARRIVALS, CONFIGS, BATCHING, st.integers(1, 12))
def test_each_job_ends_in_one_way(arrivals: list[Arrival], tenancy: TenancyConfig, batching: BatchingConfig, max_waiting: int) -> None:
    """Refused, expired or started: exactly one of them, nothing is lost, nothing starts late, lanes keep their order."""
    queue = TenantQueue(max_waiting, tenancy, batching, lambda key, rows: affine(rows))
    fates = simulate(queue, arrivals, lambda rows: affine(len(rows)))
    assert queue.num_waiting == 0
    assert queue.backlogs() == tuple(TenantBacklog(tenant=name, num_waiting=0, backlog_s=0.0) for name in "abc")
    for fate in fates:
        assert sum(ends(fate)) == 1
        assert (fate.refused == "unknown_tenant") == (fate.arrival.tenant == "stranger")
        assert not fate.started_at_s >= fate.arrival.at_s + fate.arrival.left_s
        assert fate.num_together <= batching.max_batch
    for name in "abc":
        starts = [fate.started_at_s for fate in fates if fate.arrival.tenant == name and ends(fate)[2]]
        assert starts == sorted(starts)


@given(ARRIVALS, BATCHING)
def test_batches_make_nobody_late(arrivals: list[Arrival], batching: BatchingConfig) -> None:
    """What runs with others ends before any of it is due, the remainder of its way included."""
    tenancy = TenancyConfig(tenants=tuple(TenantConfig(name=name) for name in ("a", "b", "c", "stranger")))
    fates = simulate(TenantQueue(100, tenancy, batching, lambda key, rows: affine(rows)), arrivals, lambda rows: affine(len(rows)))
    for fate in fates:
        if fate.num_together > 1:
            assert fate.ended_at_s <= fate.arrival.at_s + fate.arrival.left_s - fate.arrival.remainder_s + 1e-9


@given(ARRIVALS)
def test_admitted_jobs_of_one_tenant_are_in_time(arrivals: list[Arrival]) -> None:
    """With one tenant the expected wait is exact: what is admitted meets its deadline, and what is refused could not have."""
    alone = [Arrival(at_s=item.at_s, seconds=item.seconds, left_s=item.left_s, remainder_s=item.remainder_s) for item in arrivals]
    fates = simulate(TenantQueue(100, TenancyConfig(admission=True)), alone)
    free_at_s = 0.0
    for fate in fates:
        arrival = fate.arrival
        in_time = max(free_at_s, arrival.at_s) + arrival.seconds + arrival.remainder_s <= arrival.at_s + arrival.left_s
        assert (fate.refused is None) == in_time
        if in_time:
            assert fate.started_at_s == max(free_at_s, arrival.at_s)
            free_at_s = fate.ended_at_s


def test_refusals_say_why() -> None:
    """Each bound refuses with its own reason, at once, and a refused job costs no tokens."""
    tenants = (
        TenantConfig(name="a", max_waiting=2),
        TenantConfig(name="b", rate_s_per_s=0.5, burst_s=2.0, max_waiting=4),
        TenantConfig(name="c"),
    )
    queue = TenantQueue(4, TenancyConfig(tenants=tenants, admission=True))

    def offer(tenant: str, expected_s: float, left_s: float) -> Refusal | None:
        return queue.offer(run(0), expected_s, left_s, at_s=0.0, tenant=tenant)

    assert reason(offer("z", 1.0, 99.0)) == "unknown_tenant"
    assert reason(offer("b", 3.0, 99.0)) == "rate"
    assert reason(offer("b", 2.0, 1.0)) == "deadline"
    assert offer("b", 2.0, 99.0) is None
    refusal = offer("b", 1.0, 99.0)
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after_s) == ("rate", 2.0)
    assert offer("a", 1.0, 99.0) is None
    assert offer("", 1.0, 99.0) is None
    assert reason(offer("a", 1.0, 99.0)) == "tenant_full"
    assert offer("c", 1.0, 99.0) is None
    assert reason(offer("c", 1.0, 99.0)) == "queue_full"


def test_tenants_objective_refuses_before_its_deadline() -> None:
    """Two seconds of wait do not fit in an objective of 2.5 s with a job of 1 s, even where the request has all day."""
    tenancy = TenancyConfig(tenants=(TenantConfig(name="a", deadline_s=2.5),), admission=True)
    queue = TenantQueue(10, tenancy)
    assert [reason(queue.offer(run(number), 1.0, 1e9, at_s=0.0)) for number in range(3)] == [None, None, "deadline"]


def test_expired_jobs_are_not_charged() -> None:
    """b's expired job costs it nothing: by its tag it is still b's turn before a's second."""
    queue = TenantQueue(10, TWO)
    queue.offer(run(0), 1.0, 1e9, at_s=0.0, tenant="a")
    queue.offer(run(1), 5.0, 0.5, at_s=0.0, tenant="b")
    queue.offer(run(2), 1.0, 1e9, at_s=0.0, tenant="a")
    queue.offer(run(3), 5.0, 1e9, at_s=0.0, tenant="b")
    assert queue.start_next(0.0) == ([run(0)], [])
    queue.finished()
    assert queue.start_next(1.0) == ([run(3)], [run(1)])


def test_measurements_have_a_lane_like_any_work() -> None:
    """Given a light tenant of its own, a long measurement is started, alone, and others are served before its next."""
    tenancy = TenancyConfig(tenants=(TenantConfig(name="work"), TenantConfig(name="measuring", weight=0.01, max_waiting=4)))
    queue = TenantQueue(10, tenancy, BatchingConfig(max_batch=4, max_stretch_s=9.0), lambda key, rows: affine(rows))
    for number in range(2):
        queue.offer(measure(number), 1.0, math.inf, at_s=0.0, tenant="measuring")
    for number in range(2, 5):
        queue.offer(run(number), 1.0, math.inf, at_s=0.0, tenant="work", key=KEY)
    starts = []
    for at_s in range(3):
        starts.append([job.request_id for job in queue.start_next(float(at_s))[0]])
        queue.finished()
    assert starts == [[0], [2, 3, 4], [1]]


def test_clearing_begins_anew() -> None:
    """After an episode start quotas are full and nobody is behind, so that episodes of one seed are alike."""
    tenants = (TenantConfig(name="a", rate_s_per_s=0.1, burst_s=5.0), TenantConfig(name="b"))
    queue = TenantQueue(10, TenancyConfig(tenants=tenants))
    queue.offer(run(0), 5.0, math.inf, at_s=0.0, tenant="a")
    queue.start_next(0.0)
    assert reason(queue.offer(run(1), 5.0, math.inf, at_s=0.0, tenant="a")) == "rate"
    queue.clear_waiting()
    assert queue.backlog_s(1.0) == 4.0
    for number, tenant in enumerate("ab", 2):
        assert queue.offer(run(number), 5.0, math.inf, at_s=1.0, tenant=tenant) is None
    queue.finished()
    assert queue.start_next(5.0) == ([run(2)], [])


def test_batches_need_their_cost() -> None:
    """Without a cost of batches there is no saying whether one is too long."""
    with pytest.raises(InvalidConfig, match="batch_s"):
        TenantQueue(10, batching=BatchingConfig(max_batch=2))


def test_a_measurement_needs_room_only() -> None:
    """It is no request of the tenant whose lane it waits in: no quota is charged, and no objective holds for it."""
    strict = TenantConfig(name="a", rate_requests_per_s=1e-6, burst_requests=1, rate_s_per_s=1e-6, burst_s=1.0, deadline_s=0.5)
    queue = TenantQueue(2, TenancyConfig(tenants=(strict,), admission=True))
    assert queue.offer(measure(1), 60.0, math.inf, at_s=0.0) is None
    assert queue.start_next(0.0) == ([measure(1)], [])
    queue.finished()
    assert queue.offer(run(2), 0.1, math.inf, at_s=0.0) is None
    assert reason(queue.offer(run(3), 0.1, math.inf, at_s=0.0)) == "rate"
    assert queue.offer(measure(4), 60.0, math.inf, at_s=0.0) is None
    assert reason(queue.offer(measure(5), 60.0, math.inf, at_s=0.0)) == "queue_full"
