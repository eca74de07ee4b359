"""What a node remembers of the requests it saw: a result cache, spoken to in requests' terms.

Raw inputs may be served by similar ones if the cache's bound says so.  The tensors of a cut are served by equal ones
only: a bound that was calibrated on pictures says nothing about them.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from runtime.codecs.parcel import Parcel, pack, unpack
from runtime.errors import MalformedMessage
from runtime.inference.cache import (
    CacheConfig,
    Fingerprint,
    Question,
    ResultCache,
    Sketcher,
    acceptable,
    content_version,
    question_of,
)
from runtime.messages import Decision
from runtime.models.manifest import Manifest


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that need not be computed."""

    logits: Parcel
    exit: int
    """The exit that the logits are of."""
    reused: Literal["cache-exact", "cache-similar"]


class AnswerMemory:
    """Answers of one node by question and input.  An entry's tensors are the logits and the exit that they are of."""

    def __init__(self, config: CacheConfig, manifest: Manifest) -> None:
        self._config, self._manifest = config, manifest
        self._cache = ResultCache(config)
        self._version = content_version(manifest)
        self._sketcher = Sketcher([manifest.input]) if config.max_distance is not None else None

    def question(self, tenant: str, decision: Decision, stage: int) -> Question:
        """What a decision asks of the tensors of cut `stage`."""
        return question_of(self._manifest, decision, tenant=tenant, stage=stage, version=self._version)

    def sketcher(self, stage: int) -> Sketcher | None:
        """For the inputs of that cut; None where equal ones only are served."""
        return self._sketcher if stage == 0 else None

    def recall(self, question: Question, key: Fingerprint, at_s: float) -> Remembered | None:
        """The answer, if it or one that may serve is known."""
        questions = acceptable(self._manifest, question) if self._config.any_form else (question,)
        hit = self._cache.lookup(questions, key, at_s)
        if hit is None:
            return None
        logits, exit = hit.tensors
        return Remembered(logits=pack([logits]), exit=int(exit), reused="cache-exact" if hit.kind == "exact" else "cache-similar")

    def keep(self, question: Question, key: Fingerprint, logits: Parcel, exit: int, at_s: float) -> None:
        """Remember a computed answer, unless it is none: the wrong exit or number of scores, or not finite."""
        scores = self._scores(logits)
        if scores is None or not (0 <= exit <= question.exit if question.early_exit else exit == question.exit):
            return
        self._cache.store(question, key, [scores, np.array(exit)], at_s)

    def forget(self) -> None:
        """Drop every answer."""
        self._cache.invalidate()

    def counters(self) -> dict[str, int]:
        """The cache's totals since the start, as `cache_*`."""
        return {f"cache_{name}": value for name, value in msgspec.structs.asdict(self._cache.counters()).items()}

    def _scores(self, logits: Parcel) -> np.ndarray | None:
        try:
            tensors = unpack(logits).tensors
        except MalformedMessage:
            return None
        if len(tensors) != 1 or not np.isfinite(tensors[0]).all():
            return None
        num_classes = len(self._manifest.classes)
        return tensors[0] if not num_classes or tensors[0].size == num_classes else None
