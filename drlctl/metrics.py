"""What the daemon says of itself to Prometheus.  Base units, children cached, no label with unbounded values."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

REASONS: tuple[tuple[str, str], ...] = (
    ("controller", "policy"),
    ("fallback", "unknown_model"),
    ("fallback", "stale_telemetry"),
    ("fallback", "non_finite"),
    ("nobody", "unknown_model"),
    ("nobody", "other_difficulty"),
    ("nobody", "no_decision"),
)
"""(by, reason): who decided and why it was they; "nobody" means that the daemon refused."""

DECISION_BUCKETS_S = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 1e-1)

RELOAD_RESULTS = ("ok", "refused")


class Metrics:
    """The daemon's counters.  Any thread may call anything here."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        decisions = Counter("drlctl_decisions", "Answers by who decided and why", ("by", "reason"), registry=self.registry)
        self._decisions = {pair: decisions.labels(*pair) for pair in REASONS}
        seconds = "Seconds from the decoded observation to the decision"
        self._seconds = Histogram("drlctl_decision_seconds", seconds, buckets=DECISION_BUCKETS_S, registry=self.registry)
        self.malformed = Counter("drlctl_malformed", "Messages dropped: not decodable, or not for a controller", registry=self.registry)
        self.undeliverable = Counter(
            "drlctl_undeliverable", "Answers whose asker was gone or too slow to take them", registry=self.registry
        )
        gauge = Gauge("drlctl_ready", "1 while a bundle is loaded and the daemon is not draining", registry=self.registry)
        gauge.set_function(lambda: float(ready()))
        reloads = Counter("drlctl_bundle_reloads", "Bundles that were asked to be loaded", ("result",), registry=self.registry)
        self.reloads = {result: reloads.labels(result) for result in RELOAD_RESULTS}
        self._info = Gauge("drlctl_bundle_info", "The bundle in use", ("name", "model", "digest", "catalogue"), registry=self.registry)

    def decided(self, by: str, reason: str, seconds: float) -> None:
        """Count one answer."""
        self._decisions[by, reason].inc()
        self._seconds.observe(seconds)

    def bundle(self, name: str, model: str, digest: str, catalogue: str) -> None:
        """The bundle in use from now on."""
        self._info.clear()
        self._info.labels(name, model, digest, catalogue).set(1)

    def totals(self) -> dict[str, int]:
        """Answers so far by `by/reason`, those that happened."""
        values = {"/".join(pair): int(_value(child.collect())) for pair, child in self._decisions.items()}
        return {name: value for name, value in values.items() if value}

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


def _value(families: Iterable[object]) -> float:
    """The counter's value among what a child collects."""
    for family in families:
        for sample in getattr(family, "samples", ()):
            if sample.name.endswith("_total"):
                return float(sample.value)
    return 0.0
