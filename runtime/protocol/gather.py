"""Which waiting jobs join the one whose turn it is, and whether to wait for more.  Pure functions of a FairQueue.

A job joins when it has the same key, when every job before it in its own lane has joined (so each tenant's jobs
start in order of arrival), when nobody in the batch becomes late by it, and when the batch does not keep another
tenant's job that is left behind from its turn for more than `max_stretch_s`.  Tenants join in order of their tags.

Sources: batches only as large as the latency bound allows, and holding back for more while the load is moderate:
Crankshaw et al., Clipper, NSDI 2017, section 4.3.  Checking the deadlines of a batch's own jobs: Shen et al., Nexus,
SOSP 2019 (early drop, batch-aware dispatch).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import msgspec

from runtime.inference.batching import BatchingConfig, BatchKey, BatchSeconds
from runtime.protocol.fair_queue import FairQueue, Waiting


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that run together: the first `tenants.count(t)` of each tenant t's lane."""

    tenants: tuple[str, ...]
    """Whose job each row is, in order."""
    key: BatchKey | None
    expected_s: float


def gather(fair: FairQueue, lead: str, config: BatchingConfig, batch_s: BatchSeconds | None, at_s: float) -> Batch:
    """The batch around the lead tenant's first job if the worker starts it now; with max_batch 1 just that job."""
    first = fair.lanes[lead].jobs[0]
    batch = Batch(tenants=(lead,), key=first.key, expected_s=first.expected_s)
    if first.key is None or batch_s is None:
        return batch
    due_at_s, joined = first.due_at_s, batch.tenants
    while len(joined) < config.max_batch:
        tenant = _next(fair, first.key, joined)
        if tenant is None:
            break
        joined = (*joined, tenant)
        expected_s = batch_s(first.key, len(joined))
        due_at_s = min(due_at_s, fair.lanes[tenant].jobs[joined.count(tenant) - 1].due_at_s)
        if at_s + expected_s > due_at_s:
            break
        if expected_s - first.expected_s <= config.max_stretch_s or not _leaves_others(fair, lead, joined):
            batch = Batch(tenants=joined, key=first.key, expected_s=expected_s)  # else: one more may take the last one along
    return batch


def hold_until_s(fair: FairQueue, batch: Batch, config: BatchingConfig, batch_s: BatchSeconds | None) -> float:
    """Until when to leave this batch waiting for more; -inf when it should start.

    Held is only what could grow, while nothing else waits: for `max_hold_s` from its oldest job's arrival, and never
    so long that with one more row it would be late.
    """
    full = len(batch.tenants) >= config.max_batch
    if batch.key is None or batch_s is None or full or not config.max_hold_s or fair.num_waiting > len(batch.tenants):
        return -math.inf
    items = list(_items(fair, batch))
    late_at_s = min(item.due_at_s for item in items) - batch_s(batch.key, len(items) + 1)
    return min(min(item.offered_at_s for item in items) + config.max_hold_s, late_at_s)


def _items(fair: FairQueue, batch: Batch) -> Iterator[Waiting]:
    for tenant, number in Counter(batch.tenants).items():
        yield from (fair.lanes[tenant].jobs[index] for index in range(number))


def _next(fair: FairQueue, key: BatchKey, joined: tuple[str, ...]) -> str | None:
    """The tenant with the least tag, what it has among the joined counted, whose next job has that key."""
    best: tuple[float, int, str] | None = None
    for name, lane in fair.lanes.items():
        taken = joined.count(name)
        if taken < len(lane.jobs) and lane.jobs[taken].key == key:
            tag_s = lane.tag_s + taken * lane.jobs[taken].expected_s / lane.weight
            rank = (tag_s, lane.jobs[taken].order, name)
            best = rank if best is None else min(best, rank)
    return best[2] if best is not None else None


def _leaves_others(fair: FairQueue, lead: str, tenants: tuple[str, ...]) -> bool:
    """Whether a job of another tenant than the lead would be left waiting."""
    return any(len(lane.jobs) > tenants.count(name) for name, lane in fair.lanes.items() if name != lead)
