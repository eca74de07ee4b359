"""A node's compute queue for several tenants: fair, bounded, within quotas, with admission and batching.

    offer --> known tenant? room? quota? deadline within reach? --> its lane        else a Refusal, at once
    start_next --> drop what expired --> whose turn? --> gather more of its kind --> start, or hold back a little

With the defaults (one tenant, no admission, no batches) it is a bounded queue, first come first served.
One worker takes what is started; it cannot be interrupted.
"""

from __future__ import annotations

import math
from itertools import count

from runtime.errors import InvalidConfig
from runtime.inference.batching import NO_BATCHING, BatchingConfig, BatchKey, BatchSeconds
from runtime.inference.tenancy import ONE_TENANT, Quota, Refusal, RefusalReason, TenancyConfig
from runtime.messages import TenantBacklog
from runtime.protocol.events import Run, RunMeasure
from runtime.protocol.fair_queue import FairQueue, Lane, Waiting
from runtime.protocol.gather import Batch, gather, hold_until_s


class TenantQueue:
    """Pure bookkeeping; whoever owns it hands what is started to the worker.

    `batch_s` is needed with batches of more than one.  Raises InvalidConfig.
    """

    def __init__(
        self,
        max_waiting: int,
        tenancy: TenancyConfig = ONE_TENANT,
        batching: BatchingConfig = NO_BATCHING,
        batch_s: BatchSeconds | None = None,
    ) -> None:
        if batching.max_batch > 1 and batch_s is None:
            raise InvalidConfig("batches of more than one need batch_s, what they are expected to take")
        self._max_waiting, self._admission = max_waiting, tenancy.admission
        self._batching, self._batch_s = batching, batch_s
        bounds = tenancy.bounds(max_waiting)
        self._tenants = {tenant.name: tenant for tenant in tenancy.tenants}
        self._first = tenancy.tenants[0].name
        self._quotas = {name: Quota(tenant) for name, tenant in self._tenants.items()}
        lanes = {name: Lane(tenant.weight, bounds[name]) for name, tenant in self._tenants.items()}
        self._fair = FairQueue(lanes, tenancy.credit_s)
        self._order = count()
        self._running: tuple[float, float] | None = None
        self._hold_until_s = math.inf

    def offer(
        self,
        job: Run | RunMeasure,
        expected_s: float,
        expires_at_s: float,
        *,
        at_s: float,
        tenant: str = "",
        remainder_s: float = 0.0,
        key: BatchKey | None = None,
    ) -> Refusal | None:
        """Append a job that should take `expected_s` alone; None when accepted, else why not.

        `tenant` "" is the first.  `remainder_s` is what the request still needs after this job (links, nodes above,
        the way back).  Jobs of one key, not None, may run together.  A measurement needs room only: it is no request of
        the tenant's.
        """
        tenant = tenant or self._first
        refusal = self._no_room(tenant)
        if refusal is None and isinstance(job, Run):
            refusal = self._over_quota_or_late(tenant, expected_s, expires_at_s - remainder_s, at_s)
        if refusal is not None:
            return refusal
        if isinstance(job, Run):
            self._quotas[tenant].take(expected_s, at_s)
        if self._running is None and not self._fair.num_waiting:
            self._fair.rest()
        item = Waiting(
            job=job,
            expected_s=expected_s,
            offered_at_s=at_s,
            expires_at_s=expires_at_s,
            due_at_s=expires_at_s - remainder_s,
            key=key,
            order=next(self._order),
        )
        self._fair.push(tenant, item)
        return None

    def make_room(self, tenant: str, at_s: float) -> None:
        """Drop what has expired, if else the tenant ("": the first) would find no room; nobody is told of it."""
        if self._no_room(tenant or self._first) is not None:
            self._fair.drop_expired(at_s)

    def start_next(self, at_s: float) -> tuple[list[Run | RunMeasure], list[Run | RunMeasure]]:
        """If the worker is idle: the jobs that now run, together, none to start none; and those that expired.

        When it starts none although some wait, it holds back: ask again at `next_start_at_s`, or when there is more.
        """
        self._hold_until_s = math.inf
        if self._running is not None:
            return [], []
        expired = self._drop_expired(at_s)
        lead = self._fair.turn()
        if lead is None:
            return [], expired
        batch = gather(self._fair, lead, self._batching, self._batch_s, at_s)
        until_s = hold_until_s(self._fair, batch, self._batching, self._batch_s)
        if at_s < until_s:
            self._hold_until_s = until_s
            return [], expired
        self._running = (at_s, batch.expected_s)
        return self._take(lead, batch), expired

    @property
    def may_start(self) -> bool:
        """Whether somebody waits and the worker is idle; else `start_next` starts nothing, and nobody is held back."""
        return self._running is None and self._fair.num_waiting > 0

    @property
    def next_start_at_s(self) -> float:
        """When jobs that are held back are to be started at the latest; infinite when none are."""
        return self._hold_until_s

    def finished(self) -> None:
        """What ran is done, all of it."""
        self._running = None

    def clear_waiting(self) -> None:
        """Begin anew: drop all that wait, fill the quotas up, forget who had how much.  What runs runs out."""
        self._fair.clear()
        self._quotas = {name: Quota(tenant) for name, tenant in self._tenants.items()}
        self._hold_until_s = math.inf

    # ------------------------------------------------------------ what there is to know

    @property
    def num_waiting(self) -> int:
        """Jobs that wait."""
        return self._fair.num_waiting

    def backlog_s(self, at_s: float) -> float:
        """Expected seconds until all accepted work is done, without the gain of batches yet to form."""
        return self._fair.waiting_s + self._rest_s(at_s)

    def backlogs(self) -> tuple[TenantBacklog, ...]:
        """Each tenant's share of what waits, in the order of the configuration."""
        lanes = self._fair.lanes.items()
        return tuple(TenantBacklog(tenant=name, num_waiting=len(lane.jobs), backlog_s=lane.waiting_s) for name, lane in lanes)

    def expected_wait_s(self, tenant: str, at_s: float) -> float:
        """Seconds a job would wait that the tenant ("": the first) offered now.

        With one tenant exact as far as the expected seconds are, apart from expiry and batching, which shorten it,
        and holding back, which adds at most max_hold_s.  With several, exact if the others offer nothing meanwhile,
        else low (`FairQueue.ahead_s`).  Takes time proportional to the jobs that wait.
        """
        return self._rest_s(at_s) + self._fair.ahead_s(tenant or self._first)

    # ------------------------------------------------------------ details

    def _no_room(self, tenant: str) -> Refusal | None:
        if tenant not in self._tenants:
            return _refuse("unknown_tenant", f"tenant {tenant!r} is not known here; there is {sorted(self._tenants)}")
        lane = self._fair.lanes[tenant]
        if self._fair.num_waiting >= self._max_waiting:
            return _refuse("queue_full", f"{self._max_waiting} jobs wait already")
        if len(lane.jobs) >= lane.max_waiting:
            return _refuse("tenant_full", f"{lane.max_waiting} jobs of tenant {tenant!r} wait already")
        return None

    def _over_quota_or_late(self, tenant: str, expected_s: float, due_at_s: float, at_s: float) -> Refusal | None:
        retry_after_s = self._quotas[tenant].wait_s(expected_s, at_s)
        if retry_after_s > 0:
            return _refuse("rate", _over_quota(tenant, retry_after_s), retry_after_s)
        return self._unreachable(tenant, expected_s, due_at_s, at_s) if self._admission else None

    def _unreachable(self, tenant: str, expected_s: float, due_at_s: float, at_s: float) -> Refusal | None:
        """Admission control: whether wait and compute would end after the job is due."""
        objective_s = self._tenants[tenant].deadline_s
        left_s = min(due_at_s - at_s, math.inf if objective_s is None else objective_s)
        wait_s = self.expected_wait_s(tenant, at_s)
        if wait_s + expected_s <= left_s:
            return None
        needs = f"{wait_s:.3g} s of waiting and {expected_s:.3g} s of computing"
        return _refuse("deadline", f"{needs} do not fit in the {max(0.0, left_s):.3g} s left for them")

    def _drop_expired(self, at_s: float) -> list[Run | RunMeasure]:
        """Take expired jobs off the front of every lane; they are not charged."""
        expired = list[Run | RunMeasure]()
        for name, lane in self._fair.lanes.items():
            while lane.jobs and at_s >= lane.jobs[0].expires_at_s:
                expired.append(self._fair.pop(name).job)
        return expired

    def _take(self, lead: str, batch: Batch) -> list[Run | RunMeasure]:
        """Start a batch: each row pays an equal share of what it takes."""
        self._fair.begin(lead)
        for tenant in batch.tenants:
            self._fair.charge(tenant, batch.expected_s / len(batch.tenants))
        return [self._fair.pop(tenant).job for tenant in batch.tenants]

    def _rest_s(self, at_s: float) -> float:
        if self._running is None:
            return 0.0
        started_at_s, expected_s = self._running
        return max(0.0, expected_s - (at_s - started_at_s))


def _over_quota(tenant: str, retry_after_s: float) -> str:
    if retry_after_s == math.inf:
        return f"one job of this length is more than tenant {tenant!r} may ever ask for at once (its burst_s)"
    return f"tenant {tenant!r} is over its rate; try again in {retry_after_s:.3g} s"


def _refuse(reason: RefusalReason, message: str, retry_after_s: float = 0.0) -> Refusal:
    return Refusal(reason=reason, message=message, retry_after_s=retry_after_s)
