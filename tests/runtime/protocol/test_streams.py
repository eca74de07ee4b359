"""Many streams with a filter each."""

from __future__ import annotations

import numpy as np

from runtime.inference.filter import FilterConfig
from runtime.inference.filter.relevance import RELEVANCE_FEATURES, RelevanceCard, RelevanceModel
from runtime.inference.logistic import Logistic
from runtime.protocol.streams import StreamAnswer, Streams
from tests.runtime.protocol_helpers import decision, runs
from tests.runtime.reuse_helpers import ask, caching_device, compute_on_device, outcome_of, picture, settle

CONFIG = FilterConfig(threshold=4.0, max_age_s=10.0)
ANSWER = StreamAnswer(prediction=1, confidence=0.5, exit=0)
FRAME = np.zeros((2, 2), dtype=np.float32)


def test_a_stream_knows_its_own_answers_only() -> None:
    """By name, by tenant and by model."""
    streams = Streams(CONFIG)
    streams.processed("", "tiny", "door", streams.judge("", "tiny", "door", FRAME, 0.0), ANSWER)
    assert streams.judge("", "tiny", "door", FRAME, 1.0).reason == "unchanged"
    assert streams.answer("", "tiny", "door") == ANSWER
    assert streams.judge("", "tiny", "garden", FRAME, 1.0).reason == "first"
    assert streams.judge("someone", "tiny", "door", FRAME, 1.0).reason == "first"
    assert streams.judge("", "other", "door", FRAME, 1.0).reason == "first"
    assert streams.counters() == {"filter_first": 4, "filter_unchanged": 1}


def test_the_stream_that_was_silent_for_longest_is_forgotten_first() -> None:
    """Names come from clients: there are never more streams than the bound."""
    streams = Streams(CONFIG, max_streams=2)
    for name in ("a", "b"):
        streams.processed("", "tiny", name, streams.judge("", "tiny", name, FRAME, 0.0), ANSWER)
    streams.judge("", "tiny", "a", FRAME, 1.0)
    streams.judge("", "tiny", "c", FRAME, 1.0)
    assert streams.answer("", "tiny", "a") == ANSWER
    assert streams.judge("", "tiny", "b", FRAME, 2.0).reason == "first"


def test_a_frame_of_no_interest_is_answered_with_no_class() -> None:
    """The relevance model drops it: ok, no prediction, said to be irrelevant, and the next is judged for itself."""
    num_features = len(RELEVANCE_FEATURES)
    never = Logistic(mean=np.zeros(num_features), scale=np.ones(num_features), weights=np.zeros(num_features), bias=-50.0)
    model = RelevanceModel(card=RelevanceCard(threshold=0.5), model=never)
    device = caching_device(None, filter=CONFIG, relevance=model)
    assert compute_on_device(device, 1, 1.0, picture(0), stream="door").reused == "no"
    out = settle(device, ask(2, 2.0, picture(200), decision((3, 3)), stream="door"))
    outcome = outcome_of(out)
    assert (outcome.status, outcome.reused, outcome.prediction, outcome.exit) == ("ok", "filter-irrelevant", None, None)
    assert runs(out) == []
    assert outcome_of(settle(device, ask(3, 3.0, picture(0), decision((3, 3)), stream="door"))).reused == "filter-unchanged"
