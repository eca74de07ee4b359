"""Which jobs run together, and when an idle worker waits for more."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.inference.batching import BatchingConfig, BatchKey, affine_batch_s
from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.protocol.tenant_queue import TenantQueue
from tests.runtime.queue_simulation import KEY, Arrival, measure, run, simulate

OTHER = BatchKey(model="m", variant="int8", start=0, stop=1, exit=None)
SECONDS = st.integers(1, 64).map(lambda sixteenths: sixteenths / 16)


def affine(rows: int) -> float:
    """1 s alone, of which 0.4 s are fixed."""
    return affine_batch_s(1.0, 0.4, rows)


def make_queue(tenants: str = "ab", **batching: float) -> TenantQueue:
    """A roomy queue of equal tenants with affine batches."""
    config = TenancyConfig(tenants=tuple(TenantConfig(name=name, max_waiting=100) for name in tenants))
    return TenantQueue(100, config, BatchingConfig(**batching), lambda key, rows: affine(rows))  # type: ignore[arg-type]


def offer(
    queue: TenantQueue, jobs: list[tuple[str, BatchKey | None]], left_s: float = math.inf, at_s: float = 0.0, first_id: int = 0
) -> None:
    """Offer these tenants' jobs of 1 s, numbered in order."""
    for number, (tenant, key) in enumerate(jobs, first_id):
        assert queue.offer(run(number), 1.0, at_s + left_s, at_s=at_s, tenant=tenant, key=key) is None


def start(queue: TenantQueue, at_s: float = 0.0) -> list[int]:
    """Ids of what starts now."""
    return [job.request_id for job in queue.start_next(at_s)[0]]


def test_same_keys_run_together_up_to_the_limit() -> None:
    """Five of a kind, three at once: three, then two, and each batch takes what batches take."""
    queue = make_queue(max_batch=3)
    offer(queue, [("a", KEY)] * 5)
    assert start(queue) == [0, 1, 2]
    assert queue.backlog_s(0.0) == pytest.approx(affine(3) + 2)
    queue.finished()
    assert start(queue, 2.2) == [3, 4]


def test_another_key_ends_the_batch() -> None:
    """Nobody overtakes within a lane: what follows a job of another kind waits behind it."""
    queue = make_queue(max_batch=4)
    offer(queue, [("a", KEY), ("a", KEY), ("a", OTHER), ("a", KEY)])
    assert start(queue) == [0, 1]


def test_no_key_runs_alone() -> None:
    """Jobs without a key never join, not even each other."""
    queue = make_queue(max_batch=4, max_hold_s=1.0)
    offer(queue, [("a", None), ("a", None)])
    assert start(queue) == [0]


def test_tenants_join_in_turns() -> None:
    """With room for four among six, each of two tenants gets two rows."""
    queue = make_queue(max_batch=4, max_stretch_s=9.0)
    offer(queue, [("a", KEY)] * 3 + [("b", KEY)] * 3)
    assert start(queue) == [0, 3, 1, 4]


def test_rows_pay_equal_shares() -> None:
    """a's three rows and b's one cost 2.8 s together: b paid a third of what a did, so its next job leads."""
    queue = make_queue(max_batch=4, max_stretch_s=9.0)
    offer(queue, [("a", KEY)] * 3 + [("b", KEY), ("a", OTHER), ("b", OTHER)])
    assert start(queue) == [0, 3, 1, 2]
    queue.finished()
    assert start(queue, 2.8) == [5, 4]


@pytest.mark.parametrize(("max_stretch_s", "expected"), [(0.0, 1), (0.6, 2), (1.2, 3), (9.0, 5)])
def test_others_are_not_kept_waiting_beyond_the_bound(max_stretch_s: float, expected: int) -> None:
    """Every further row adds 0.6 s; how many may join depends on how long b's job may be kept from its turn."""
    queue = make_queue(max_batch=8, max_stretch_s=max_stretch_s + 1e-9)
    offer(queue, [("a", KEY)] * 5 + [("b", OTHER)])
    assert len(start(queue)) == expected


def test_nobody_is_kept_waiting_by_a_batch_it_is_in() -> None:
    """With no stretch at all, tenants whose jobs all join still form a batch."""
    queue = make_queue(max_batch=8)
    offer(queue, [("a", KEY), ("b", KEY), ("a", KEY)])
    assert start(queue) == [0, 1, 2]


def test_a_batch_may_grow_past_what_would_leave_others_behind() -> None:
    """Two jobs of each of two tenants, no stretch: three together would leave one behind, all four do not."""
    queue = make_queue(max_batch=4)
    offer(queue, [("a", KEY), ("b", KEY), ("a", KEY), ("b", KEY)])
    assert start(queue) == [0, 1, 2, 3]


def test_batch_ends_before_anybody_is_due() -> None:
    """With 2 s left to all, three rows (2.2 s) would be late and two (1.6 s) are not."""
    queue = make_queue(max_batch=8)
    offer(queue, [("a", KEY)] * 5, left_s=2.0)
    assert start(queue) == [0, 1]


def test_idle_worker_holds_back_for_more() -> None:
    """A single job is held for max_hold_s from its arrival; the caller learns when to ask again."""
    queue = make_queue(max_batch=3, max_hold_s=0.5)
    offer(queue, [("a", KEY)], at_s=10.0)
    assert start(queue, 10.0) == []
    assert queue.next_start_at_s == 10.5
    assert start(queue, 10.25) == []
    assert start(queue, 10.5) == [0]
    assert queue.next_start_at_s == math.inf


def test_full_batch_is_not_held() -> None:
    """As soon as the batch is full it starts."""
    queue = make_queue(max_batch=2, max_hold_s=0.5)
    offer(queue, [("a", KEY)])
    assert start(queue) == []
    offer(queue, [("b", KEY)], at_s=0.25, first_id=1)
    assert start(queue, 0.25) == [0, 1]


def test_nothing_is_held_while_other_work_waits() -> None:
    """A job of another kind, or a measurement, ends the holding back."""
    queue = make_queue(max_batch=3, max_hold_s=0.5)
    offer(queue, [("a", KEY)])
    assert start(queue) == []
    queue.offer(measure(1), 9.0, math.inf, at_s=0.25, tenant="b")
    assert start(queue, 0.25) == [0]


def test_holding_makes_nobody_late() -> None:
    """With 1.8 s left, a job is held only as long as two rows (1.6 s) would still be in time."""
    queue = make_queue(max_batch=3, max_hold_s=0.5)
    offer(queue, [("a", KEY)], left_s=1.8)
    assert start(queue) == []
    assert queue.next_start_at_s == pytest.approx(0.2)


def test_an_episode_start_lets_nothing_go() -> None:
    """What is held back when all that waits is dropped, is dropped."""
    queue = make_queue(max_batch=3, max_hold_s=0.5)
    offer(queue, [("a", KEY)])
    start(queue)
    queue.clear_waiting()
    assert queue.next_start_at_s == math.inf
    assert start(queue, 1.0) == []


JOBS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([KEY, OTHER])), max_size=30)


@given(JOBS, st.integers(1, 6), st.sampled_from([0.0, 0.6, 1.2, 3.0]), st.floats(0, 20), st.sampled_from([0.0, 0.2, 5.0]))
def test_newcomer_waits_a_stretched_job_of_each_other(
    jobs: list[tuple[str, BatchKey]], max_batch: int, max_stretch_s: float, at_s: float, credit_s: float
) -> None:
    """A tenant that was idle waits for the running batch and at most one job of each other, each stretched by the bound."""
    arrivals = [Arrival(at_s=0.0, seconds=1.0, tenant=name, key=key) for name, key in jobs]
    arrivals.append(Arrival(at_s=at_s, seconds=1.0, tenant="new"))
    tenants = tuple(TenantConfig(name=name, max_waiting=100) for name in ("a", "b", "c", "new"))
    config = TenancyConfig(tenants=tenants, credit_s=credit_s)
    batching = BatchingConfig(max_batch=max_batch, max_stretch_s=max_stretch_s)
    fates = simulate(TenantQueue(100, config, batching, lambda key, rows: affine(rows)), arrivals, lambda rows: affine(len(rows)))
    (own,) = [fate for fate in fates if fate.arrival.tenant == "new"]
    running_s = max(
        [fate.ended_at_s - at_s for fate in fates if fate.started_at_s <= at_s < fate.ended_at_s and fate is not own], default=0.0
    )
    assert own.wait_s <= running_s + 2 * (1.0 + max_stretch_s) + 1e-6
    for fate in fates:
        if fate.started_at_s > at_s and fate.ended_at_s < own.started_at_s:
            assert fate.ended_at_s - fate.started_at_s <= 1.0 + max_stretch_s + 1e-6


@given(JOBS, st.integers(1, 6))
def test_batching_never_takes_longer(jobs: list[tuple[str, BatchKey]], max_batch: int) -> None:
    """All work is done no later with batches than without."""
    arrivals = [Arrival(at_s=index / 4, seconds=1.0, tenant=name, key=key) for index, (name, key) in enumerate(jobs)]
    plain = simulate(make_queue("abc"), arrivals, lambda rows: affine(len(rows)))
    fates = simulate(make_queue("abc", max_batch=max_batch, max_stretch_s=9.0), arrivals, lambda rows: affine(len(rows)))
    assert max((fate.ended_at_s for fate in fates), default=0) <= max((fate.ended_at_s for fate in plain), default=0) + 1e-9
