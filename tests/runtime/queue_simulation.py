"""One worker, one queue, an exact clock: what becomes of each job of a list of arrivals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from runtime.codecs.parcel import Parcel
from runtime.inference.batching import BatchKey
from runtime.inference.tenancy import DEFAULT_TENANT, RefusalReason
from runtime.protocol.events import Run, RunMeasure
from runtime.protocol.tenant_queue import TenantQueue

KEY = BatchKey(model="m", variant="fp32", start=0, stop=1, exit=None)


def run(request_id: int) -> Run:
    """A job with nothing in it but its id."""
    return Run(
        request_id=request_id, model="tiny", variant="fp32", start=0, stop=1, exit=None, parcel=Parcel(), codec="identity", slowdown=1.0
    )


def measure(request_id: int) -> RunMeasure:
    """A measurement job."""
    return RunMeasure(request_id=request_id, model="tiny", variant="fp32", start=0, stop=1, exit=None, repeats=1, pace_s=0.0)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A job that somebody offers."""

    at_s: float
    seconds: float
    tenant: str = DEFAULT_TENANT
    left_s: float = math.inf
    """Until it expires."""
    remainder_s: float = 0.0
    key: BatchKey | None = None


@dataclass(kw_only=True)
class Fate:
    """What became of it; instants are NaN where it did not get so far."""

    arrival: Arrival
    started_at_s: float = math.nan
    ended_at_s: float = math.nan
    expired_at_s: float = math.nan
    refused: RefusalReason | None = None
    num_together: int = 0
    """Jobs it ran with, itself included."""

    @property
    def wait_s(self) -> float:
        """From arrival to start."""
        return self.started_at_s - self.arrival.at_s

    @property
    def latency_s(self) -> float:
        """From arrival to end."""
        return self.ended_at_s - self.arrival.at_s


def simulate(
    queue: TenantQueue,
    arrivals: Iterable[Arrival],
    batch_s: Callable[[Sequence[Arrival]], float] = lambda rows: sum(row.seconds for row in rows),
) -> list[Fate]:
    """Offer all arrivals and work until nothing is left, one fate for each in order of arrival."""
    fates = [Fate(arrival=arrival) for arrival in sorted(arrivals, key=lambda arrival: arrival.at_s)]
    coming = 0
    ends_at_s = math.inf
    while coming < len(fates) or ends_at_s < math.inf or queue.num_waiting:
        arrives_at_s = fates[coming].arrival.at_s if coming < len(fates) else math.inf
        at_s = min(arrives_at_s, ends_at_s, queue.next_start_at_s)
        if at_s == ends_at_s:
            queue.finished()
            ends_at_s = math.inf
        elif at_s == arrives_at_s:
            _offer(queue, coming, fates[coming])
            coming += 1
        jobs, expired = queue.start_next(at_s)
        for job in expired:
            fates[job.request_id].expired_at_s = at_s
        if jobs:
            rows = [fates[job.request_id] for job in jobs]
            ends_at_s = at_s + batch_s([row.arrival for row in rows])
            for row in rows:
                row.started_at_s, row.ended_at_s, row.num_together = at_s, ends_at_s, len(rows)
    return fates


def _offer(queue: TenantQueue, request_id: int, fate: Fate) -> None:
    arrival = fate.arrival
    refusal = queue.offer(
        run(request_id),
        arrival.seconds,
        arrival.at_s + arrival.left_s,
        at_s=arrival.at_s,
        tenant=arrival.tenant,
        remainder_s=arrival.remainder_s,
        key=arrival.key,
    )
    fate.refused = refusal.reason if refusal is not None else None


def poisson(tenant: str, load: float, seconds: float, until_s: float, rng: np.random.Generator, **rest: object) -> list[Arrival]:
    """Poisson arrivals of equal jobs that ask for `load` of the worker's time."""
    number = rng.poisson(load / seconds * until_s)
    return [Arrival(at_s=float(at_s), seconds=seconds, tenant=tenant, **rest) for at_s in np.sort(rng.uniform(0, until_s, number))]  # type: ignore[arg-type]


def percentile_s(fates: Iterable[Fate], tenant: str, share: float) -> float:
    """A percentile of the latencies of a tenant's jobs that ran."""
    return float(np.nanpercentile([fate.latency_s for fate in fates if fate.arrival.tenant == tenant], share))


def busy_fraction(fates: Sequence[Fate], until_s: float) -> float:
    """Share of the time until `until_s` in which the worker worked."""
    spans = {(fate.started_at_s, min(fate.ended_at_s, until_s)) for fate in fates if fate.started_at_s < until_s}
    return sum(end_s - start_s for start_s, end_s in spans) / until_s
