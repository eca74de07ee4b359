"""Messages survive the wire, and nothing else does."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.codec import MAX_FRAMES, MAX_HEADER_BYTES, MAX_MESSAGE_BYTES, from_frames, num_bytes, seal, to_frames, unseal
from runtime.codecs import CODECS
from runtime.codecs.parcel import pack, unpack
from runtime.errors import InvalidDecision, MalformedMessage
from runtime.messages import (
    Ack,
    Breakdown,
    Chunk,
    ChunkQuery,
    Contribution,
    Decided,
    Decision,
    Declined,
    EpisodeStarted,
    Failure,
    FitJob,
    FitQuery,
    FitReady,
    FitReport,
    FitStart,
    FitStop,
    Gossip,
    JobView,
    Join,
    KeyBook,
    KeyPair,
    KeyShares,
    LinkView,
    ManifestFound,
    ManifestQuery,
    MaskKeys,
    Measure,
    Measured,
    Message,
    NetworkSpec,
    NodeTelemetry,
    NodeView,
    NotHere,
    Observation,
    Outcome,
    PeerState,
    Ping,
    Pong,
    Refused,
    Result,
    Revealed,
    Round,
    RoundRecord,
    SealedShares,
    SetTau,
    Span,
    SplitStep,
    StartEpisode,
    StatusQuery,
    StatusReport,
    Submit,
    Survivors,
    TauSpec,
    TenantBacklog,
    UpdateHeader,
    Upload,
    Uploaded,
    Wanted,
    Work,
)

DECISION = Decision(model="m", variant="int8", cuts=(1, 3), exit=1)
NODE = NodeView(backlog_s=0.1, num_waiting=1, num_own=2, age_s=0.05)
LINK = LinkView(rate_bytes_per_s=1e6, delay_s=0.01, outstanding_bytes=10.0, age_s=0.2)
VIEW = JobView(
    num_rounds=3, tau=5, num_steps=4, since_s=0.6, last_round_s=0.9, loss=1.0, loss_drop=0.25, outstanding_bytes=7.0, tau_due=True
)  # fmt: skip
IMAGE = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
FLOATS = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)

JOB = FitJob(name="j", network=NetworkSpec(factory="m:f", arguments={"width": 3}), tau=TauSpec(rule="adaptive"))
ROUND = RoundRecord(round=1, tau=5, at_s=1.0, clients=("a",), loss=0.5, compute_s=0.1, transfer_s=0.2, waiting_s=0.3)
KEYS = KeyPair(seal=bytes(32), mask=bytes(range(32)))
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
            job=VIEW,
        ),
        [],
    ),
    (Decided(request_id=1, decision=DECISION), []),
    (Refused(request_id=1, message="draining"), []),
    (Work(request_id=1, decision=DECISION, stage=1, budget_s=0.2), [FLOATS, IMAGE]),
    (Work(request_id=1, decision=DECISION, stage=1, budget_s=0.2, tenant="quiet", handed_over=True), [FLOATS]),
    (Pong(sequence=5, nodes=(NodeTelemetry(tier="edge", tenants=(TenantBacklog(tenant="a", num_waiting=1, backlog_s=0.1),)),)), []),
    (Ack(request_id=1), []),
    (ManifestQuery(model="m"), []),
    (ManifestFound(model="m", sha256="0a" * 32, num_bytes=7), []),
    (ChunkQuery(sha256="0a" * 32, offset=65536), []),
    (Chunk(sha256="0a" * 32, offset=65536, num_bytes=65552), [IMAGE.reshape(16)]),
    (NotHere(name="0a" * 32, reason="unknown", message="never heard of it"), []),
    (Result(request_id=1, exit=1, spans=(Span(queue_s=0.1), Span(handover_s=0.2, handover_bytes=(1, 2), handed_over=True))), [FLOATS]),
    (Failure(request_id=1, status="overload", message="full"), []),
    (Outcome(request_id=1, status="ok", decision=DECISION, breakdown=Breakdown(decision_s=0.1), latency_s=0.1), []),
    (Ping(sequence=5), []),
    (Ping(sequence=5, beside=True), []),
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
    (FitStart(request_id=1, job=JOB, role="root", clients=("a", "b")), []),
    (FitReady(request_id=1, num_examples=10, num_parameters=1000), []),
    (FitQuery(request_id=1, job="j", since_round=3), []),
    (FitReport(request_id=1, job="j", phase="training", round=1, tau=5, joined=("a",), records=(ROUND,)), []),
    (FitStop(request_id=1, job="j"), []),
    (SetTau(job="j", tau=5), []),
    (Join(job="j", client="a", num_examples=10), []),
    (Round(request_id=1, job="j", client="a", round=2, tau=5, reply_within_s=10.0, num_rounds=1, loss=0.5), [FLOATS]),
    (
        Contribution(
            request_id=1,
            job="j",
            header=UpdateHeader(client="a", round=2, num_examples=10, metrics={"loss": 0.1}),
            compressor="qsgd8",
            parameters=b"\x92",
            estimate=(0.1, 0.2),
        ),
        [IMAGE, FLOATS],
    ),
    (Gossip(request_id=1, job="j", source="a", target="b", weight=0.5), [FLOATS]),
    (PeerState(request_id=1, job="j", client="a", round=1, weight=0.5, num_examples=3, metrics={"loss": 0.1}), [FLOATS]),
    (Declined(job="j", client="a", round=2, message="out of memory"), []),
    (Wanted(job="j", client="a", first=300), []),
    (Upload(request_id=1, job="j", client="a", first=300, total=500), [IMAGE, np.arange(2)]),
    (Uploaded(job="j", client="a", joules=0.5), []),
    (SplitStep(request_id=1, job="j", client="a", round=2, step=3, leg="logit_gradients", tau=5, loss=0.5, dwell_s=0.1), [FLOATS]),
    (MaskKeys(job="j", client="a", round=2, keys=KEYS), []),
    (KeyBook(job="j", client="a", round=2, keys={1: KEYS, 3: KEYS}), []),
    (KeyShares(job="j", client="a", round=2, sealed={3: b"\x01\xff"}), []),
    (SealedShares(job="j", client="a", round=2, sealed={1: b""}), []),
    (Survivors(job="j", client="a", round=2, numbers=(1, 3)), []),
    (Revealed(job="j", client="a", round=2, mask_keys={3: b"\x00"}, own_seeds={1: b"\x07"}), []),
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
        ([b"drl2", bytes(MAX_MESSAGE_BYTES)], "message has at most"),
        ([b"drl9\x92"], "another wire version"),
    ],
)
def test_sizes_are_bounded_before_decoding(frames: list[bytes], words: str) -> None:
    """Too many frames, a huge header, a huge message, another version: named as such."""
    with pytest.raises(MalformedMessage, match=words.replace("..", r"\.\.")):
        from_frames(frames)


@pytest.mark.parametrize("num_bytes", [0, 3, 5, 60_000_000])
def test_a_frame_of_another_length_than_its_spec_says_is_malformed(num_bytes: int) -> None:
    """Before anything reads it: a node may pass frames on as they came, and a long one would fill its link."""
    header, frame = to_frames(Ack(request_id=1), [np.zeros(4, dtype=np.uint8)])
    assert len(frame) == 4
    with pytest.raises(MalformedMessage, match="needs 4 bytes"):
        unseal([header, bytes(num_bytes)])


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


# ---------------------------------------------------------------- encoded tensors

WORK = Work(request_id=1, decision=DECISION, stage=1, budget_s=0.2)
ACTIVATIONS = np.maximum(np.random.default_rng(0).normal(size=(1, 8, 6, 6)), 0.0).astype(np.float32)


def tampered(codec: str, position: int, value: object, tensor: np.ndarray = ACTIVATIONS) -> list[bytes]:
    """An encoded message with one entry of its envelope replaced: 1 specs, 2 codec, 3 headers."""
    frames = [bytes(frame) for frame in to_frames(WORK, [tensor], codec)]
    envelope = msgspec.msgpack.decode(frames[0][4:])
    envelope[position] = value
    return [frames[0][:4] + msgspec.msgpack.encode(envelope), *frames[1:]]


@pytest.mark.parametrize("codec", CODECS)
def test_tensors_travel_encoded(codec: str) -> None:
    """Several tensors, floats and integers, arrive as the codec leaves them, beside the same message."""
    sent = [ACTIVATIONS, IMAGE, np.float32(2.0).reshape(())]
    message, got = from_frames([bytes(frame) for frame in to_frames(WORK, sent, codec)])
    assert message == WORK
    for tensor, arrived in zip(sent, got, strict=True):
        encoded = CODECS[codec].encode(tensor)
        expected = CODECS[codec].decode(encoded.header, encoded.frame, unseal(to_frames(WORK, [tensor]))[1].specs[0])
        np.testing.assert_array_equal(arrived, expected)
        assert (arrived.shape, arrived.dtype) == (tensor.shape, tensor.dtype)


def test_identity_adds_nothing_to_the_wire() -> None:
    """A message in the identity codec is the message and its specs, as it was before there were codecs."""
    frames = to_frames(WORK, [ACTIVATIONS])
    envelope = msgspec.msgpack.decode(bytes(frames[0])[4:])
    assert len(envelope) == 2
    assert bytes(frames[1]) == ACTIVATIONS.tobytes()


@pytest.mark.parametrize("codec", ["identity", "int8+zstd"])
def test_packing_elsewhere_gives_the_same_frames(codec: str) -> None:
    """`pack` in a worker and `seal` in the loop are `to_frames`; `unseal` and `unpack` are `from_frames`."""
    parcel = pack([ACTIVATIONS, IMAGE], codec)
    frames = [bytes(frame) for frame in seal(WORK, parcel)]
    assert frames == [bytes(frame) for frame in to_frames(WORK, [ACTIVATIONS, IMAGE], codec)]
    message, received = unseal(frames)
    assert (message, received.codec, received.specs) == (WORK, codec, parcel.specs)
    unpacked = unpack(received)
    for one, other in zip(unpacked.tensors, from_frames(frames)[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert parcel.encode_s > 0.0
    assert unpacked.decode_s > 0.0


def test_our_own_unknown_codec_is_our_caller_s_error() -> None:
    """Sending with a codec that does not exist says which do."""
    with pytest.raises(InvalidDecision, match="codec 'zip' does not exist"):
        to_frames(WORK, [ACTIVATIONS], "zip")


@pytest.mark.parametrize(
    ("codec", "position", "value", "words"),
    [
        ("int8", 2, "zip", "codec 'zip' does not exist"),
        ("int8", 2, "identity", "expected 0"),
        ("int8", 3, [], "0 tensor headers for 1 tensors"),
        ("int8", 3, [[["AsIs"]]], "with Affine parameters is due"),
        ("int8", 3, [[["Affine", float("nan"), 0]]], "scale must be finite"),
        ("int8", 3, [[["Affine", 0.0, 0]]], "scale must be finite"),
        ("int8", 3, [[["Affine", 1e300, 0]]], "beyond what float32 tensors can have"),
        ("int8", 3, [[["Affine", 1.0, 256]]], "zero_point must be in"),
        ("int8", 3, [[["Affine", 1.0, 0], True]], "uncompressed frame"),
        ("int8+zstd", 3, [[["Affine", 1.0, 0]]], "needs 288 bytes"),
        ("topk10", 3, [[["Sparse", -1]]], "num_kept must be"),
        ("topk10", 3, [[["Sparse", 30]]], "keeps at most 29 of 288"),
        ("topk10", 3, [[["Sparse", 28]]], "22 bytes for 28 of 288 indices"),
        ("topk10", 1, [{"shape": [2**20, 2**20], "dtype": "float32"}], "would decode to 4398046511104"),
        ("topk10", 1, [{"shape": [2**40, 0], "dtype": "float32"}], "would decode to"),
        ("identity", 1, [{"shape": [2**62, 0, 3], "dtype": "float32"}], "needs 0 bytes"),
    ],
)
def test_a_header_that_lies_is_malformed(codec: str, position: int, value: object, words: str) -> None:
    """Unknown codecs, headers too few or of another codec, impossible parameters, tensors beyond the limit: all named."""
    with pytest.raises(MalformedMessage, match=words):
        from_frames(tampered(codec, position, value))


def test_an_empty_tensor_of_an_impossible_shape_is_malformed() -> None:
    """No bytes are due, but no array has these extents either."""
    frames = tampered("identity", 1, [{"shape": [2**62, 0, 3], "dtype": "float32"}], np.zeros((0,), np.float32))
    with pytest.raises(MalformedMessage, match="cannot be"):
        from_frames(frames)


@settings(max_examples=400)
@given(st.sampled_from(sorted(set(CODECS) - {"identity"})), st.data())
def test_a_mutated_encoded_message_decodes_or_is_malformed(codec: str, data: st.DataObject) -> None:
    """Flipped bytes in the header or behind it give a message with tensors or MalformedMessage."""
    frames = [bytearray(frame) for frame in to_frames(WORK, [ACTIVATIONS, IMAGE], codec)]
    for _ in range(data.draw(st.integers(1, 4))):
        frame = data.draw(st.sampled_from(frames))
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        message, _ = from_frames([bytes(frame) for frame in frames])
    except MalformedMessage:
        return
    assert type(message) in Message.__args__
