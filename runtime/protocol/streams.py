"""The streams that clients name, each with a filter of its own: which frames need no inference at all."""

from __future__ import annotations

from collections import Counter, OrderedDict

import msgspec
import numpy as np

from runtime.inference.filter import FilterConfig, RelevanceModel, StreamFilter, Verdict

MAX_STREAMS = 256
"""Names come from clients, so they are bounded: the stream that has been silent for longest is forgotten."""


class StreamAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame was answered with."""

    prediction: int
    confidence: float
    exit: int


class Streams:
    """A device's streams by tenant, model and name: tenants never share, and one model's answer is none of another's."""

    def __init__(self, config: FilterConfig, relevance: RelevanceModel | None = None, max_streams: int = MAX_STREAMS) -> None:
        self.config, self._relevance, self._max_streams = config, relevance, max_streams
        self._filters: OrderedDict[tuple[str, str, str], StreamFilter[StreamAnswer]] = OrderedDict()
        self._counts: Counter[str] = Counter()

    def judge(self, tenant: str, model: str, stream: str, thumbnail: np.ndarray, at_s: float) -> Verdict:
        """The verdict on a stream's next frame."""
        verdict = self._filter(tenant, model, stream).judge_thumbnail(thumbnail, at_s)
        self._counts[verdict.reason] += 1
        return verdict

    def answer(self, tenant: str, model: str, stream: str) -> StreamAnswer | None:
        """The last processed frame's; None without one."""
        return self._filter(tenant, model, stream).answer

    def processed(self, tenant: str, model: str, stream: str, verdict: Verdict, answer: StreamAnswer) -> None:
        """A judged frame was answered."""
        self._filter(tenant, model, stream).processed(verdict, answer)

    def forget(self) -> None:
        """Every stream begins anew."""
        self._filters.clear()

    def counters(self) -> dict[str, int]:
        """Verdicts since the start by reason, as `filter_*`."""
        return {f"filter_{reason}": count for reason, count in self._counts.items()}

    def _filter(self, tenant: str, model: str, stream: str) -> StreamFilter[StreamAnswer]:
        name = (tenant, model, stream)
        if name not in self._filters:
            self._filters[name] = StreamFilter(self.config, self._relevance)
            if len(self._filters) > self._max_streams:
                self._filters.popitem(last=False)
        self._filters.move_to_end(name)
        return self._filters[name]
