"""What every wire codec must do.  Registering one enrols it."""

from __future__ import annotations

import math
import tracemalloc
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.codecs import CODECS, find_codec, is_lossless
from runtime.codecs.header import Affine, AsIs, Sparse, TensorHeader
from runtime.codecs.interface import Codec
from runtime.codecs.raw import raw_bytes, spec_of
from runtime.errors import InvalidDecision, InvalidTensor, MalformedMessage
from runtime.messages import DType, TensorSpec

DTYPES = get_args(DType)
SHAPES = [(), (0,), (1,), (7,), (0, 3), (1, 16, 9, 9), (3, 1, 257), (1, 64, 64, 64)]
LOSSY = sorted({name.partition("+")[0] for name in CODECS} - {"identity"})
LOSSLESS = sorted(filter(is_lossless, CODECS))
FLOATS = ("float16", "float32")


@pytest.fixture(params=list(CODECS))
def name(request: pytest.FixtureRequest) -> str:
    """Each codec's name in turn."""
    return str(request.param)


@pytest.fixture
def codec(name: str) -> Codec:
    """Each codec in turn."""
    return CODECS[name]


def activations(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """What a ReLU leaves: about half of the elements are 0.  Integers are of the same shape."""
    values = np.maximum(np.random.default_rng(seed).normal(0.0, 20.0, size=shape), 0.0)
    return np.asarray(values).astype(dtype)


def round_trip(codec: Codec, tensor: np.ndarray) -> np.ndarray:
    """Encode and decode."""
    encoded = codec.encode(tensor)
    return codec.decode(encoded.header, encoded.frame, spec_of(tensor))


def finite_arrays(dtypes: tuple[str, ...] = DTYPES) -> st.SearchStrategy[np.ndarray]:
    """Small arrays of finite values, extremes and subnormals included."""

    def of(dtype: str) -> st.SearchStrategy[np.ndarray]:
        elements = {"allow_nan": False, "allow_infinity": False} if dtype in FLOATS else {}
        return hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9), elements=elements or None)

    return st.sampled_from(dtypes).flatmap(of)


# ---------------------------------------------------------------- the registry


def test_the_registry_is_sorted_and_has_its_identity() -> None:
    """One sorted literal, with the member that the others are compared with."""
    assert list(CODECS) == sorted(CODECS)
    assert "identity" in CODECS


def test_an_unknown_codec_is_refused_by_name() -> None:
    """The error lists what there is."""
    with pytest.raises(InvalidDecision, match=r"codec 'zip' does not exist; there is fp16, .*identity\+zstd"):
        find_codec("zip")


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip_keeps_shape_and_dtype(codec: Codec, shape: tuple[int, ...]) -> None:
    """Every codec takes every dtype and shape, scalars, empty and large ones too, within its estimate."""
    for dtype in DTYPES:
        tensor = activations(shape, dtype)
        encoded = codec.encode(tensor)
        decoded = codec.decode(encoded.header, encoded.frame, spec_of(tensor))
        assert (decoded.shape, decoded.dtype) == (tensor.shape, tensor.dtype)
        assert len(encoded.frame) <= codec.bytes_estimate(spec_of(tensor))


@given(finite_arrays())
def test_any_finite_tensor_round_trips_within_the_estimate(tensor: np.ndarray) -> None:
    """No finite values are too large, too small or too alike for any codec."""
    for name, codec in CODECS.items():
        encoded = codec.encode(tensor)
        decoded = codec.decode(encoded.header, encoded.frame, spec_of(tensor))
        assert (decoded.shape, decoded.dtype) == (tensor.shape, tensor.dtype), name
        assert np.isfinite(decoded).all(), name
        assert len(encoded.frame) <= codec.bytes_estimate(spec_of(tensor)), name


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype not in FLOATS])
def test_integers_are_exact_whatever_the_codec(codec: Codec, dtype: str) -> None:
    """Pictures and cuts that are quantised already pass through a lossy codec unchanged."""
    info = np.iinfo(dtype)
    tensor = np.random.default_rng(1).integers(info.min, info.max, size=(2, 50), dtype=dtype, endpoint=True)
    np.testing.assert_array_equal(round_trip(codec, tensor), tensor)


def test_encoding_is_deterministic_and_leaves_its_input_alone(codec: Codec) -> None:
    """The same tensor gives the same header and bytes twice, in another memory order too."""
    tensor = activations((4, 30, 30), "float32")
    before = tensor.copy()
    first, second = codec.encode(tensor), codec.encode(np.asfortranarray(tensor))
    assert (first.header, bytes(first.frame)) == (second.header, bytes(second.frame))
    np.testing.assert_array_equal(tensor, before)


def test_headers_survive_the_wire(codec: Codec) -> None:
    """A header decodes from MessagePack as what it was."""
    header = codec.encode(activations((5, 40), "float32")).header
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(header), type=TensorHeader) == header


# ---------------------------------------------------------------- what is lost


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSLESS)
def test_identity_is_exact_whatever_is_behind_it(name: str, dtype: str) -> None:
    """Bit for bit, infinities and NaN too."""
    tensor = activations((1, 8, 20, 20), dtype)
    if dtype in FLOATS:
        tensor.reshape(-1)[:4] = [np.nan, np.inf, -np.inf, -0.0]
    assert round_trip(CODECS[name], tensor).tobytes() == tensor.tobytes()


def test_a_lossless_stage_changes_no_value(name: str) -> None:
    """`X+zstd` and `X+lz4` give what X gives."""
    tensor = activations((1, 8, 20, 20), "float32")
    np.testing.assert_array_equal(round_trip(CODECS[name], tensor), round_trip(CODECS[name.partition("+")[0]], tensor))


def test_identity_copies_nothing() -> None:
    """Its frame is the tensor's memory, its tensor the frame's."""
    tensor = activations((4, 5), "float32")
    encoded = CODECS["identity"].encode(tensor)
    assert np.shares_memory(np.frombuffer(encoded.frame, np.uint8), tensor)
    assert np.shares_memory(CODECS["identity"].decode(encoded.header, encoded.frame, spec_of(tensor)), tensor)


@given(finite_arrays(("float32",)))
def test_fp16_is_within_half_a_unit_in_the_last_place(tensor: np.ndarray) -> None:
    """Relative 2^-11 in range, absolute 2^-25 below the normal halves, saturated beyond them."""
    decoded = round_trip(CODECS["fp16"], tensor).astype(np.float64)
    due = np.clip(tensor.astype(np.float64), -65504.0, 65504.0)
    assert (np.abs(decoded - due) <= np.maximum(2.0**-11 * np.abs(due), 2.0**-25)).all()


@given(finite_arrays(FLOATS))
def test_int8_is_within_half_a_step_and_keeps_zero(tensor: np.ndarray) -> None:
    """Half of (max - min) / 255, 0 in the range, plus the rounding of the dtype itself; 0 stays 0."""
    decoded = round_trip(CODECS["int8"], tensor).astype(np.float64)
    wide = tensor.astype(np.float64)
    step = max((wide.max(initial=0.0) - wide.min(initial=0.0)) / 255, float(np.finfo(np.float32).tiny))
    info = np.finfo(tensor.dtype)
    rounding = float(info.eps) * np.abs(wide) + float(info.smallest_subnormal)
    assert (np.abs(decoded - wide) <= 0.5 * step * (1.0 + 1e-4) + rounding).all()
    assert (decoded[wide == 0.0] == 0.0).all()


@pytest.mark.parametrize("density_percent", sorted(int(name[4:]) for name in LOSSY if name.startswith("topk")))
@given(tensor=finite_arrays(FLOATS))
def test_topk_keeps_the_largest_exactly(density_percent: int, tensor: np.ndarray) -> None:
    """k = ceil(density n) elements of the largest magnitude are exact, all others 0."""
    decoded = round_trip(CODECS[f"topk{density_percent}"], tensor).reshape(-1)
    flat = tensor.reshape(-1)
    k = math.ceil(flat.size * density_percent / 100)
    kept = decoded != 0
    assert kept.sum() == min(k, np.count_nonzero(flat))
    np.testing.assert_array_equal(decoded[kept], flat[kept])
    np.testing.assert_array_equal(np.sort(np.abs(decoded))[::-1][:k], np.sort(np.abs(flat))[::-1][:k])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [name for name in CODECS if name.startswith(("int8", "topk"))])
def test_what_has_no_level_and_no_rank_is_refused(name: str, value: float) -> None:
    """Infinities and NaN are our caller's error where a codec cannot write them."""
    tensor = activations((3, 9), "float32")
    tensor[1, 4] = value
    with pytest.raises(InvalidTensor, match="infinities or NaN"):
        CODECS[name].encode(tensor)


# ---------------------------------------------------------------- hostile frames

HEADERS = st.builds(
    TensorHeader,
    parameters=st.just(AsIs())
    | st.builds(Affine, scale=st.floats(1e-300, 1e300), zero_point=st.integers(0, 255))
    | st.builds(Sparse, num_kept=st.integers(0, 2**62)),
    compressed=st.booleans(),
)
SPECS = st.builds(TensorSpec, shape=st.lists(st.integers(0, 12), max_size=3).map(tuple), dtype=st.sampled_from(DTYPES))


def assert_decodes_or_is_malformed(codec: Codec, header: TensorHeader, frame: bytes, spec: TensorSpec) -> None:
    """Exactly the spec, or the one typed error."""
    try:
        decoded = codec.decode(header, frame, spec)
    except MalformedMessage:
        return
    assert spec_of(decoded) == spec


@given(st.sampled_from(list(CODECS)), HEADERS, st.binary(max_size=300), SPECS)
def test_garbage_never_crashes(name: str, header: TensorHeader, frame: bytes, spec: TensorSpec) -> None:
    """Any header with any bytes under any spec decodes to that spec or is malformed."""
    assert_decodes_or_is_malformed(CODECS[name], header, frame, spec)


@given(st.sampled_from(list(CODECS)), st.data())
def test_flipped_bits_never_crash(name: str, data: st.DataObject) -> None:
    """A frame with a few bits flipped decodes to its spec or is malformed."""
    tensor = activations((2, 10, 12), data.draw(st.sampled_from(DTYPES)), seed=data.draw(st.integers(0, 3)))
    encoded = CODECS[name].encode(tensor)
    frame = bytearray(encoded.frame)
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert_decodes_or_is_malformed(CODECS[name], encoded.header, bytes(frame), spec_of(tensor))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_every_truncation_and_trailing_garbage_are_malformed(codec: Codec, dtype: str) -> None:
    """A frame that lacks its end, or has something behind it, is no frame of this tensor."""
    tensor = activations((3, 8, 8), dtype)
    encoded = codec.encode(tensor)
    whole = bytes(encoded.frame)
    for frame in (*(whole[:end] for end in range(len(whole))), whole + b"\x00", whole + whole):
        with pytest.raises(MalformedMessage):
            codec.decode(encoded.header, frame, spec_of(tensor))


@pytest.mark.parametrize("name", [name for name in CODECS if "+" in name])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_bomb_is_refused_before_it_is_unpacked(name: str, dtype: str) -> None:
    """A stream that decompresses to a thousand times what is due ends in an error, and in no more memory than is due."""
    big = np.zeros(32 << 20, np.uint8)
    lossless = f"identity+{name.partition('+')[2]}"
    bomb = bytes(CODECS[lossless].encode(big).frame)
    due = TensorSpec(shape=(1, 32, 1024 // np.dtype(dtype).itemsize), dtype=dtype)  # type: ignore[arg-type]
    header = msgspec.structs.replace(CODECS[name].encode(np.zeros(due.shape, dtype)).header, compressed=True)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            CODECS[name].decode(header, bomb, due)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert raw_bytes(due) * 1000 <= big.nbytes
    assert peak_bytes <= 2 * raw_bytes(due) + 64 * 1024


def test_decoding_allocates_a_small_multiple_of_the_tensor(codec: Codec) -> None:
    """Temporaries included: at most four times the decoded bytes."""
    tensor = activations((1, 64, 64, 64), "float32")
    encoded = codec.encode(tensor)
    tracemalloc.start()
    try:
        codec.decode(encoded.header, encoded.frame, spec_of(tensor))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes <= 4 * tensor.nbytes
