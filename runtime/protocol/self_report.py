"""What a node tells of itself, and of what it knows above it: telemetry, the answer to a ping, its status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from runtime.messages import NodeTelemetry, Pong, StatusReport
from runtime.protocol.connection import Connection
from runtime.protocol.distribution import Distribution
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.identity import Identity
from runtime.protocol.scheduler import Scheduler


class SelfReport:
    """Reads the parts of a node; changes none."""

    def __init__(
        self,
        identity: Identity,
        models: HostedModels,
        scheduler: Scheduler,
        distribution: Distribution,
        upstream: Connection | None,
        counters: Counter[str],
    ) -> None:
        self._identity, self._models, self._scheduler = identity, models, scheduler
        self._distribution, self._up, self._counters = distribution, upstream, counters
        self.memory_bytes = 0
        """Of the process, as the last Tick had it."""

    def telemetry(self, at_s: float) -> tuple[NodeTelemetry, ...]:
        """This node's own, then what it knows of those above."""
        own = NodeTelemetry(
            tier=self._identity.tier,
            backlog_s=self._scheduler.backlog_s(at_s),
            num_waiting=self._scheduler.num_waiting,
            memory_bytes=self.memory_bytes,
            num_overruns=self._counters["overruns"],
            tenants=self._scheduler.backlogs(),
            loaded=self._distribution.loaded,
        )
        return (own, *(self._up.telemetry(at_s) if self._up is not None else ()))

    def pong(self, sequence: int, at_s: float) -> Pong:
        """Answer to the ping with this number."""
        links = self._up.link_views(at_s) if self._up is not None else ()
        return Pong(sequence=sequence, nodes=self.telemetry(at_s), links=links)

    def status(self, request_id: int, at_s: float, counters: Mapping[str, int]) -> StatusReport:
        """Everything; `counters` are the node's own and those of its parts."""
        return StatusReport(
            request_id=request_id,
            name=self._identity.name,
            tier=self._identity.tier,
            pid=self._identity.pid,
            emulated=self._identity.slowdown > 1 or (self._up is not None and self._up.emulated),
            telemetry=self.telemetry(at_s),
            links=self._up.link_views(at_s, self._up.outstanding_bytes) if self._up is not None else (),
            counters=dict(counters),
            models=self._models.names,
        )
