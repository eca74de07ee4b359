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
from runtime.inference.cache import CacheConfig, ResultCache, Sketcher, acceptable, content_version, question_of
from runtime.inference.difficulty import DifficultyPredictor
from runtime.messages import Decision, Tier
from runtime.protocol.events import Inspect
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.task import DeviceTask, Task


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that need not be computed."""

    logits: Parcel
    exit: int
    """The exit that the logits are of."""
    reused: Literal["cache-exact", "cache-similar"]


class AnswerMemory:
    """Answers of one node by question and input.  Without a configuration it knows nothing, and keeps nothing.

    An entry's tensors are the logits and the exit that they are of.
    """

    def __init__(self, config: CacheConfig | None, models: HostedModels) -> None:
        self._config, self._models = config, models
        self._cache = ResultCache(config) if config is not None else None
        self._versions = {manifest.model: content_version(manifest) for manifest in models}
        by_similarity = config is not None and config.max_distance is not None
        self._sketchers = {manifest.model: Sketcher([manifest.input]) for manifest in models if by_similarity}

    @property
    def in_use(self) -> bool:
        """Whether there is a cache."""
        return self._cache is not None

    def inspect(
        self, task: Task, stage: int, slowdown: float, *, thumbnail_side: int = 0, difficulty: DifficultyPredictor | None = None
    ) -> Inspect:
        """Have a request's input, the tensors of cut `stage`, looked at; a fresh one's not for the cache."""
        return Inspect(
            request_id=task.request_id,
            parcel=task.parcel,
            digest=self.in_use and not task.fresh,
            sketcher=self._sketchers.get(_model_of(task)) if stage == 0 else None,
            thumbnail_side=thumbnail_side,
            difficulty=difficulty,
            slowdown=slowdown,
        )

    def recall(self, task: Task, decision: Decision, stage: int, tier: Tier, at_s: float) -> Remembered | None:
        """The answer, if it or one that may serve is known; the task then says so, and else what to keep its answer under."""
        if self._cache is None or self._config is None or task.fingerprint is None:
            return None
        manifest, version = self._models.of(decision), self._versions[decision.model]
        task.question = question_of(manifest, decision, tenant=task.tenant, stage=stage, version=version)
        questions = acceptable(manifest, task.question) if self._config.any_form else (task.question,)
        hit = self._cache.lookup(questions, task.fingerprint, at_s)
        if hit is None:
            return None
        logits, exit = hit.tensors
        found = Remembered(logits=pack([logits]), exit=int(exit), reused="cache-exact" if hit.kind == "exact" else "cache-similar")
        task.reused, task.reused_at = found.reused, tier
        return found

    def keep(self, task: Task, logits: Parcel, exit: int, at_s: float) -> None:
        """Remember an answer that was computed, here or above; never one that was known already, so errors do not breed.

        Nor one that cannot be: of another exit, with too few or too many scores, or not finite.
        """
        question = task.question if task.reused == "no" else None
        scores = self._scores(question.model, logits) if question is not None else None
        if self._cache is None or question is None or task.fingerprint is None or scores is None:
            return
        if 0 <= exit <= question.exit if question.early_exit else exit == question.exit:
            self._cache.store(question, task.fingerprint, [scores, np.array(exit)], at_s)

    def forget(self) -> None:
        """Drop every answer."""
        if self._cache is not None:
            self._cache.invalidate()

    def counters(self) -> dict[str, int]:
        """The cache's totals since the start, as `cache_*`."""
        counters = msgspec.structs.asdict(self._cache.counters()) if self._cache is not None else {}
        return {f"cache_{name}": value for name, value in counters.items()}

    def _scores(self, model: str, logits: Parcel) -> np.ndarray | None:
        try:
            tensors = unpack(logits).tensors
        except MalformedMessage:
            return None
        if len(tensors) != 1 or not np.isfinite(tensors[0]).all():
            return None
        num_classes = len(self._models.find(model).classes)
        return tensors[0] if not num_classes or tensors[0].size == num_classes else None


def _model_of(task: Task) -> str:
    """Which model its input is for: a device's request says so before it is decided."""
    if isinstance(task, DeviceTask):
        return task.model
    assert task.decision is not None, "work comes with its decision"
    return task.decision.model
