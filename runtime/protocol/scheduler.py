"""What a node computes next: requests' shares and measurements, queued for its one worker."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from runtime.inference.batching import BatchKey, affine_batch_s
from runtime.inference.tenancy import Refusal
from runtime.messages import Decision, TenantBacklog
from runtime.models.manifest import Manifest
from runtime.models.pieces import Piece
from runtime.protocol.connection import Connection
from runtime.protocol.events import Run, RunBatch, RunMeasure
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.identity import Identity
from runtime.protocol.remainder import Remainder
from runtime.protocol.task import Task
from runtime.protocol.tenant_queue import TenantQueue


class Scheduler:
    """Turns what decisions give this node into jobs, and says when each may start."""

    def __init__(self, identity: Identity, models: HostedModels, upstream: Connection | None) -> None:
        self._identity, self._models, self._up = identity, models, upstream
        self._queue = TenantQueue(identity.max_waiting, identity.tenancy, identity.batching, self._batch_s)
        self.running_pieces: tuple[Piece, ...] = ()
        """What the worker computes with, where pieces come and go."""
        self.running_measurement: int | None = None
        """Id of the measurement that the worker is at; None when it is at none."""
        self._remainder = Remainder(models, identity.tier, identity.slowdowns_above)

    # ------------------------------------------------------------ offering

    def offer(self, task: Task, decision: Decision, at_s: float) -> Refusal | None:
        """Queue this node's share of a request; None when accepted."""
        manifest, tier = self._models.of(decision), self._identity.tier
        lane = self._identity.tenancy.lane(task.tenant)
        start, stop = manifest.stage_range(decision, tier)
        run = Run(
            request_id=task.request_id,
            model=decision.model,
            variant=decision.variant,
            start=start,
            stop=stop,
            exit=decision.exit if stop == manifest.end(decision) else None,
            early=manifest.early_exits(decision, tier),
            parcel=task.parcel,
            codec=decision.codec,
            slowdown=self._identity.slowdown,
        )
        self._queue.make_room(lane, at_s)  # requests end at their deadlines, their jobs when it is their turn
        return self._queue.offer(
            run,
            self.expected_s(decision),
            task.expires_at_s,
            at_s=at_s,
            tenant=lane,
            remainder_s=self._remainder_s(decision, task.tenant, at_s),
            key=self._batch_key(manifest, run),
        )

    def offer_measurement(self, job: RunMeasure, expected_s: float, at_s: float) -> Refusal | None:
        """Queue a measurement; it never expires."""
        self._queue.make_room("", at_s)
        return self._queue.offer(job, expected_s, np.inf, at_s=at_s)

    # ------------------------------------------------------------ starting

    @property
    def may_start(self) -> bool:
        """Whether there is a point in `start_next`: somebody waits, and the worker is idle."""
        return self._queue.may_start

    def start_next(self, tasks: Mapping[int, Task], at_s: float) -> tuple[list[Run | RunBatch | RunMeasure], list[int]]:
        """What starts now, at most one instruction, and the ids of requests that expired waiting; `tasks` are alive.

        Expired are requests of `tasks` only: a job outlives its request, and another may have come with the same id.
        """
        expired: list[int] = []
        while True:
            jobs, late = self._queue.start_next(at_s)
            expired += [job.request_id for job in late if isinstance(job, Run) and _wanted(job, tasks)]
            if not jobs:
                return [], expired
            if isinstance(jobs[0], RunMeasure):
                self.running_pieces, self.running_measurement = (piece_of(jobs[0]),), jobs[0].request_id
                return [jobs[0]], expired
            rows = tuple(job for job in jobs if isinstance(job, Run) and _wanted(job, tasks))
            if rows:
                self.running_pieces = tasks[rows[0].request_id].pieces  # a batch's rows are of one segment
                return [rows[0] if len(rows) == 1 else self._batch_of(rows)], expired
            self._queue.finished()  # their requests ended meanwhile

    def finished(self) -> None:
        """What started last is done."""
        self._queue.finished()
        self.running_pieces, self.running_measurement = (), None

    def clear(self) -> None:
        """Forget what waits."""
        self._queue.clear_waiting()

    @property
    def next_start_at_s(self) -> float:
        """When what is held back for a batch starts at the latest; infinite when nothing is."""
        return self._queue.next_start_at_s

    # ------------------------------------------------------------ what there is to know

    @property
    def num_waiting(self) -> int:
        """Jobs that wait."""
        return self._queue.num_waiting

    def backlog_s(self, at_s: float) -> float:
        """Expected seconds of all accepted work."""
        return self._queue.backlog_s(at_s)

    def expected_s(self, decision: Decision) -> float:
        """Expected seconds of this node's share of a decision, alone."""
        return self._identity.slowdown * self._models.of(decision).expected_s(decision, self._identity.tier)

    def expected_wait_s(self, tenant: str, at_s: float) -> float:
        """Expected seconds until a job offered now would start; 0 for a tenant that is not known and will be refused."""
        lane = self._identity.tenancy.lane(tenant)
        return self._queue.expected_wait_s(lane, at_s) if lane in self._identity.tenancy.names else 0.0

    def backlogs(self) -> tuple[TenantBacklog, ...]:
        """Each tenant's share of what waits; empty where the node does not tell tenants apart."""
        return self._queue.backlogs() if len(self._identity.tenancy.tenants) > 1 else ()

    # ------------------------------------------------------------ details

    def _remainder_s(self, decision: Decision, tenant: str, at_s: float) -> float:
        """What the request will need once it is computed here; asked for only where somebody minds."""
        if self._up is None or not (self._identity.tenancy.admission or self._identity.batching.max_batch > 1):
            return 0.0
        links = self._up.link_views(at_s, self._up.outstanding_bytes)
        return self._remainder.expected_s(decision, tenant, self._up.telemetry(at_s), links)

    def _batch_key(self, manifest: Manifest, run: Run) -> BatchKey | None:
        """What others must share with this run to be computed together with it; None: it runs alone."""
        if self._identity.batching.max_batch == 1 or run.start == run.stop or run.early:
            return None
        if not manifest.any_batch(run.variant, run.start, run.stop, run.exit):
            return None
        return BatchKey(model=run.model, variant=run.variant, start=run.start, stop=run.stop, exit=run.exit)

    def _batch_s(self, key: BatchKey, num_rows: int) -> float:
        """Expected seconds of that many runs together."""
        alone_s = self._models.find(key.model).reference_s(key.variant, key.start, key.stop, key.exit)
        return affine_batch_s(self._identity.slowdown * alone_s, self._identity.fixed_fractions[key.model][key.variant], num_rows)

    def _batch_of(self, rows: tuple[Run, ...]) -> RunBatch:
        return RunBatch(rows=rows, fixed_fraction=self._identity.fixed_fractions[rows[0].model][rows[0].variant])


def piece_of(job: RunMeasure) -> Piece:
    """What a measurement runs."""
    return Piece(model=job.model, variant=job.variant, start=job.start, stop=job.stop, exit=job.exit)


def _wanted(job: Run, tasks: Mapping[int, Task]) -> bool:
    """Whether the request it was queued for lives; another that came with the same id has other tensors."""
    task = tasks.get(job.request_id)
    return task is not None and task.parcel is job.parcel
