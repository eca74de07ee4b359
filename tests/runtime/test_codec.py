"""Messages survive the wire, and nothing else does."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.codec import MAX_FRAMES, MAX_HEADER_BYTES, MAX_MESSAGE_BYTES, from_frames, num_bytes, to_frames
from runtime.errors import MalformedMessage
from runtime.messages import (
    Ack,
    Breakdown,
    Decided,
    Decision,
    EpisodeStarted,
    Failure,
    LinkView,
    Measure,
    Measured,
    Message,
    NodeTelemetry,
    NodeView,
    Observation,
    Outcome,
    Ping,
    Pong,
    Refused,
    Result,
    Span,
    StartEpisode,
    StatusQuery,
    StatusReport,
    Submit,
    Work,
)

DECISION = Decision(model="m", variant="int8", cuts=(1, 3), exit=1)
NODE = NodeView(backlog_s=0.1, num_waiting=1, num_own=2, age_s=0.05)
LINK = LinkView(rate_bytes_per_s=1e6, delay_s=0.01, outstanding_bytes=10.0, age_s=0.2)
IMAGE = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
FLOATS = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)

CASES: list[tuple[Message, list[np.ndarray]]] = [
    (Submit(request_id=1, model="m", deadline_s=0.3), [IMAGE]),
    (Submit(request_id=1, model="m", deadline_s=0.3, decision=DECISION, waited_s=0.001), [IMAGE]),
    (
        Observation(
            request_id=1,
            model="m",
            at_s=1.0,
            deadline_s=0.3,
            num_in_flight=2,
            arrival_rate_per_s=9.0,
            nodes=(NODE, NODE, NODE),
            links=(LINK, LINK),
        ),
        [],
    ),
    (Decided(request_id=1, decision=DECISION), []),
    (Refused(request_id=1, message="draining"), []),
    (Work(request_id=1, decision=DECISION, stage=1, budget_s=0.2), [FLOATS, IMAGE]),
    (Ack(request_id=1), []),
    (Result(request_id=1, exit=1, spans=(Span(queue_s=0.1), Span())), [FLOATS]),
    (Failure(request_id=1, status="overload", message="full"), []),
    (Outcome(request_id=1, status="ok", decision=DECISION, breakdown=Breakdown(decision_s=0.1), latency_s=0.1), []),
    (Ping(sequence=5), []),
    (Pong(sequence=5, nodes=(NodeTelemetry(tier="edge", backlog_s=0.1),), links=(LINK,)), []),
    (StartEpisode(seed=3, starts_in_s=0.5, controller="tcp://127.0.0.1:1"), []),
    (EpisodeStarted(seed=3), []),
    (Measure(request_id=1, model="m", variant="fp32", start=0, stop=2, exit=None, repeats=3), []),
    (Measured(request_id=1, tier_s=(0.1,), host_s=(0.01,)), []),
    (StatusQuery(request_id=1), []),
    (
        StatusReport(
            request_id=1, name="e", tier="edge", pid=1, emulated=True, telemetry=(), links=(LINK,), counters={"x": 1}, models=("m",)
        ),
        [],
    ),
]


def test_every_message_has_a_case() -> None:
    """A message added to the union must join the table."""
    assert {type(message) for message, _ in CASES} == set(Message.__args__)


@pytest.mark.parametrize(("message", "tensors"), CASES, ids=lambda value: type(value).__name__)
def test_round_trip(message: Message, tensors: list[np.ndarray]) -> None:
    """What goes in comes out: message, shapes, dtypes and values."""
    decoded, arrays = from_frames(to_frames(message, tensors))
    assert decoded == message
    for got, expected in zip(arrays, tensors, strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype


@pytest.mark.parametrize(("message", "tensors"), CASES, ids=lambda value: type(value).__name__)
def test_truncation_is_malformed(message: Message, tensors: list[np.ndarray]) -> None:
    """Cut anywhere in the header, a message is refused; so is one with a frame missing or too many."""
    frames = [bytes(frame) for frame in to_frames(message, tensors)]
    for end in range(len(frames[0])):
        with pytest.raises(MalformedMessage):
            from_frames([frames[0][:end], *frames[1:]])
    with pytest.raises(MalformedMessage):
        from_frames([*frames, b"more"])
    if tensors:
        with pytest.raises(MalformedMessage):
            from_frames(frames[:-1])
        with pytest.raises(MalformedMessage):
            from_frames([*frames[:-1], frames[-1][:-1]])


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_garbage_is_malformed(frames: list[bytes]) -> None:
    """Whatever the bytes, one typed error."""
    with pytest.raises(MalformedMessage):
        from_frames(frames)


@settings(max_examples=400)
@given(st.sampled_from(CASES), st.data())
def test_a_mutated_message_decodes_or_is_malformed(case: tuple[Message, list[np.ndarray]], data: st.DataObject) -> None:
    """Flipped bytes give a valid message or MalformedMessage, never another exception."""
    frames = [bytearray(frame) for frame in to_frames(*case)]
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(4, len(frames[0]) - 1))
        frames[0][index] = data.draw(st.integers(0, 255))
    try:
        message, _ = from_frames([bytes(frame) for frame in frames])
    except MalformedMessage:
        return
    assert type(message) in Message.__args__


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "1..17 frames"),
        ([b"x"] * (MAX_FRAMES + 1), "1..17 frames"),
        ([b"x" * (MAX_HEADER_BYTES + 1)], "header has at most"),
        ([b"drl1", bytes(MAX_MESSAGE_BYTES)], "message has at most"),
        ([b"drl9\x92"], "another wire version"),
    ],
)
def test_sizes_are_bounded_before_decoding(frames: list[bytes], words: str) -> None:
    """Too many frames, a huge header, a huge message, another version: named as such."""
    with pytest.raises(MalformedMessage, match=words.replace("..", r"\.\.")):
        from_frames(frames)


def test_a_shape_that_claims_the_moon_allocates_nothing() -> None:
    """A header with a 2^40-element shape is compared with the bytes that came, and refused."""
    header = bytes(to_frames(Work(request_id=1, decision=DECISION, stage=1, budget_s=0.2), [FLOATS])[0])
    envelope = msgspec.msgpack.decode(header[4:])
    envelope[1][0]["shape"] = [2**20, 2**20]
    with pytest.raises(MalformedMessage, match="needs 4398046511104 bytes"):
        from_frames([header[:4] + msgspec.msgpack.encode(envelope), FLOATS.tobytes()])


@pytest.mark.parametrize("field", ["budget_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_numbers_that_are_no_durations_are_malformed(field: str, value: float) -> None:
    """NaN, infinite and negative durations do not get past the decoder."""
    header = bytes(to_frames(Work(request_id=1, decision=DECISION, stage=1, budget_s=0.2))[0])
    envelope = msgspec.msgpack.decode(header[4:])
    envelope[0][field] = value
    with pytest.raises(MalformedMessage, match="budget_s must be finite"):
        from_frames([header[:4] + msgspec.msgpack.encode(envelope)])


def test_zero_sized_and_zero_dimensional_tensors_travel() -> None:
    """Shapes () and (0, 3) are shapes too."""
    for tensor in (np.float32(3.5).reshape(()), np.zeros((0, 3), np.float32)):
        _, (got,) = from_frames(to_frames(Ack(request_id=1), [tensor]))
        assert got.shape == tensor.shape


def test_num_bytes_counts_header_and_tensors() -> None:
    """What a link is charged with is what crosses it."""
    frames = to_frames(Ack(request_id=1), [IMAGE])
    assert num_bytes(frames) == len(frames[0]) + 16
