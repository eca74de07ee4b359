"""What a simulated cache is: how much fits, and which decisions ask the same of an input."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec
import numpy as np

from runtime.inference.cache import CacheConfig, Fingerprint, Question
from runtime.inference.cache.fingerprint import DIGEST_BYTES, SKETCH_BITS
from runtime.inference.cache.question import lossy_cuts_of
from runtime.inference.cache.results import entry_bytes
from runtime.messages import Decision
from runtime.profile import Profile


class CacheSetup(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of one tier's cache."""

    config: CacheConfig
    capacity: int
    """Answers that there is room for."""
    questions: np.ndarray
    """int64 [D]: decisions that ask the same of the same picture have the same number."""
    num_examples: int


def cache_setup(config: CacheConfig | None, questions: np.ndarray, profile: Profile, num_examples: int) -> CacheSetup | None:
    """None without a cache."""
    if config is None:
        return None
    return CacheSetup(config=config, capacity=cache_capacity(config, profile), questions=questions, num_examples=num_examples)


def questions(decisions: Sequence[Decision], profile: Profile) -> np.ndarray:
    """int64 [D], of raw inputs: equal for the same variant, exit and early exit; cuts matter where a codec loses something there."""
    asked: list[Hashable] = []
    for decision in decisions:
        lossy_cuts = lossy_cuts_of(decision, profile.end(decision))
        asked.append((decision.variant, decision.exit, decision.early_exit, lossy_cuts, decision.codec if lossy_cuts else ""))
    return _numbers(asked)


def payload_questions(decisions: Sequence[Decision], profile: Profile) -> np.ndarray:
    """int64 [D], of what comes to the edge: the first cut and the codec make the payload, so they always matter."""
    asked: list[Hashable] = []
    for decision in decisions:
        lossy_cuts = lossy_cuts_of(decision, profile.end(decision), decision.cuts[0])
        asked.append((decision.variant, decision.exit, decision.early_exit, decision.cuts[0], decision.codec, lossy_cuts))
    return _numbers(asked)


def _numbers(asked: Sequence[Hashable]) -> np.ndarray:
    numbers = {question: number for number, question in enumerate(dict.fromkeys(asked))}
    return np.array([numbers[question] for question in asked], dtype=np.int64)


def cache_capacity(config: CacheConfig, profile: Profile) -> int:
    """Answers that a cache has room for, all of them taken for as large as those of the longest variant's name."""
    variant = max(profile.variants, key=lambda name: len(name.encode()))
    question = Question(tenant="", model=profile.model, version="0" * 64, variant=variant, exit=0)
    key = Fingerprint(digest=bytes(DIGEST_BYTES), sketch=bytes(SKETCH_BITS // 8) if config.max_distance is not None else None)
    logits, exit = np.zeros((1, len(profile.classes)), dtype=np.float32), np.array(0)
    return config.max_bytes // entry_bytes(question, key, [logits, exit])
