"""What every registered compressor keeps to; registering one enrols it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.codecs.header import Affine, AsIs, Sparse, TensorHeader
from runtime.errors import InvalidConfig, InvalidTensor, MalformedMessage
from runtime.training.compress import COMPRESSORS, Compressed, find_compressor, load_state, save_state

VECTORS = arrays(np.float32, st.integers(0, 700), elements=st.floats(-1e6, 1e6, width=32))
HEADERS = st.builds(
    TensorHeader,
    parameters=st.one_of(st.just(AsIs()), st.just(Affine(scale=1.0, zero_point=0)), st.builds(Sparse, num_kept=st.integers(0, 2**62))),
    compressed=st.booleans(),
)
by_name = pytest.mark.parametrize("name", COMPRESSORS)


def drawn(size: int, seed: int = 0) -> np.ndarray:
    """A normal vector."""
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


@by_name
@settings(max_examples=15)
@given(vector=VECTORS, seed=st.integers(0, 99))
def test_it_reads_what_it_wrote_within_its_estimate(name: str, vector: np.ndarray, seed: int) -> None:
    """float32 of the same length, finite, no more bytes than estimated, through a real message header."""
    compressor = COMPRESSORS[name]
    compressed, state = compressor.compress(vector, compressor.start(vector.size), np.random.default_rng(seed))
    header = msgspec.msgpack.decode(msgspec.msgpack.encode(compressed.header), type=TensorHeader)
    read = compressor.decompress(Compressed(header=header, frames=compressed.frames), vector.size)
    assert read.shape == vector.shape
    assert read.dtype == np.float32
    assert np.isfinite(read).all()
    assert compressed.num_bytes <= compressor.bytes_estimate(vector.size, 0)
    assert state.round_number == 1


@by_name
def test_the_same_seed_gives_the_same_frames(name: str) -> None:
    """All randomness comes from the generator that is passed in; state and vector are left as they were."""
    compressor, vector = COMPRESSORS[name], drawn(1000)
    state = compressor.start(1000)
    first, _ = compressor.compress(vector, state, np.random.default_rng(3))
    again, _ = compressor.compress(vector, state, np.random.default_rng(3))
    assert [bytes(frame) for frame in first.frames] == [bytes(frame) for frame in again.frames]
    np.testing.assert_array_equal(vector, drawn(1000))
    assert not state.residual.any()


@by_name
def test_a_saved_state_goes_on_as_the_original(name: str) -> None:
    """After a restart the next frames are those that would have been sent."""
    compressor, state = COMPRESSORS[name], COMPRESSORS[name].start(500)
    for seed in range(3):
        _, state = compressor.compress(drawn(500, seed), state, np.random.default_rng(seed))
    restored = load_state(save_state(state))
    expected, _ = compressor.compress(drawn(500, 9), state, np.random.default_rng(9))
    got, _ = compressor.compress(drawn(500, 9), restored, np.random.default_rng(9))
    assert [bytes(frame) for frame in expected.frames] == [bytes(frame) for frame in got.frames]
    assert restored.round_number == 3


@by_name
@settings(max_examples=25)
@given(data=st.data(), size=st.integers(0, 300))
def test_garbage_is_refused_or_read_never_worse(name: str, data: st.DataObject, size: int) -> None:
    """Any frames behind any header give MalformedMessage or a finite vector of the right length."""
    compressor = COMPRESSORS[name]
    honest, _ = compressor.compress(drawn(size), compressor.start(size), np.random.default_rng(0))
    frames = tuple(data.draw(st.one_of(st.just(bytes(frame)), st.binary(max_size=len(frame) + 2))) for frame in honest.frames)
    frames = data.draw(st.sampled_from([frames, frames[:-1], (*frames, b"")]))
    header = data.draw(st.one_of(st.just(honest.header), HEADERS))
    try:
        read = compressor.decompress(Compressed(header=header, frames=frames), size)
    except MalformedMessage:
        return
    assert read.shape == (size,)
    assert np.isfinite(read).all()


@by_name
@pytest.mark.parametrize(
    "bad", [np.array([1, np.nan], np.float32), np.array([1, np.inf], np.float32), np.ones(2), np.ones((1, 2), np.float32)]
)
def test_only_finite_float32_vectors_are_written(name: str, bad: np.ndarray) -> None:
    """What would ruin every model is refused where it arises."""
    with pytest.raises(InvalidTensor):
        COMPRESSORS[name].compress(bad, COMPRESSORS[name].start(2), np.random.default_rng(0))


@by_name
def test_a_state_belongs_to_its_model(name: str) -> None:
    """An update of another length is refused."""
    with pytest.raises(InvalidTensor, match="state is for updates of 3"):
        COMPRESSORS[name].compress(drawn(2), COMPRESSORS[name].start(3), np.random.default_rng(0))


def test_an_unknown_name_lists_those_there_are() -> None:
    """Whoever mistypes is told."""
    with pytest.raises(InvalidConfig, match="does not exist; there is dgc, dgc"):
        find_compressor("gzip", 1)


def test_the_registry_is_sorted() -> None:
    """One order, so that names are found."""
    assert list(COMPRESSORS) == sorted(COMPRESSORS)
