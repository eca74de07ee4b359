"""What a request still needs once a node has computed its share: links, and the tiers above with what waits there."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.messages import TIERS, Decision, LinkView, NodeTelemetry, Tier
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.payload_sizes import PayloadSizes
from runtime.rates import FLOOR_BYTES_PER_S


class Remainder:
    """The way from one tier upwards and back, in expected seconds.

    `slowdowns` are those of the tiers above, nearest first.  Compressed cuts count with their codec's upper bound.
    """

    def __init__(self, models: HostedModels, tier: Tier, slowdowns: Sequence[float]) -> None:
        self._models, self._sizes = models, PayloadSizes(models)
        self._above = list(zip(TIERS[TIERS.index(tier) + 1 :], slowdowns, strict=False))

    def expected_s(self, decision: Decision, tenant: str, nodes: Sequence[NodeTelemetry], links: Sequence[LinkView]) -> float:
        """From the end of this tier's computation until the answer is back, by telemetry and links as known here.

        What is not known counts as free: then the request is tried, and its deadline decides.
        """
        manifest, known = self._models.of(decision), {node.tier: node for node in nodes}
        total_s = 0.0
        for (tier, slowdown), link in zip(self._above, links, strict=False):
            start, stop = manifest.stage_range(decision, tier)
            if start == manifest.end(decision):
                break
            size_bytes = self._sizes.expected_bytes(decision, start) + link.outstanding_bytes
            total_s += 2 * link.delay_s + size_bytes / max(link.rate_bytes_per_s, FLOOR_BYTES_PER_S)
            if start < stop:
                total_s += slowdown * manifest.expected_s(decision, tier)
                total_s += expected_wait_s(known[tier], tenant) if tier in known else 0.0
        return total_s


def expected_wait_s(node: NodeTelemetry, tenant: str) -> float:
    """Seconds that a tenant's next job will wait on a node that reported this, `age_s` ago.

    Where the node tells tenants apart, each other one is served as much as this one has waiting before its turn,
    as if their weights were equal: they are the node's own business and not reported.
    """
    backlog_s = node.backlog_s
    lanes = {lane.tenant: lane.backlog_s for lane in node.tenants}
    if tenant in lanes:
        backlog_s -= sum(max(0.0, other_s - lanes[tenant]) for other_s in lanes.values())
    return max(0.0, backlog_s - node.age_s)
