"""What an input is known by as it came over a link."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from runtime.codec import seal, unseal
from runtime.codecs import CODECS
from runtime.codecs.parcel import pack, unpack
from runtime.inference.cache import Sketcher, fingerprint
from runtime.inference.cache.parcels import parcel_digest, parcel_fingerprint
from runtime.messages import Ping, TensorSpec

FLOATS = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)


@given(arrays(np.uint8, array_shapes(max_dims=3, max_side=4)), arrays(np.uint8, array_shapes(max_dims=3, max_side=4)))
def test_inputs_share_a_digest_exactly_if_they_are_equal(left: np.ndarray, right: np.ndarray) -> None:
    """Values, shapes: whatever differs makes another digest."""
    equal = left.shape == right.shape and bool((left == right).all())
    assert (parcel_digest(pack([left])) == parcel_digest(pack([right]))) is equal


def test_dtype_order_and_division_matter() -> None:
    """The same bytes as another dtype, in another order, or divided otherwise are other inputs."""
    zeros = np.zeros(4, dtype=np.uint8)
    types = [[zeros], [zeros.view(np.int8)], [zeros.view(np.float32)]]
    divisions = [[zeros[:2], zeros[2:]], [zeros[:1], zeros[1:]], [zeros, zeros[:0]], [zeros[:0], zeros]]
    assert len({parcel_digest(pack(tensors)) for tensors in types + divisions}) == len(types + divisions)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_equal_digests_decode_to_equal_tensors(codec: str) -> None:
    """The same tensors, encoded twice and sent, share a digest; the codec's parameters are a part of it."""
    sent = [unseal(seal(Ping(sequence=index), pack([FLOATS.copy()], codec)))[1] for index in range(2)]
    assert parcel_digest(sent[0]) == parcel_digest(sent[1])
    np.testing.assert_array_equal(unpack(sent[0]).tensors[0], unpack(sent[1]).tensors[0])
    assert parcel_digest(sent[0]) != parcel_digest(pack([2 * FLOATS], codec))


def test_two_inputs_that_differ_in_a_header_only_are_two() -> None:
    """Quantised to eight bits, a tensor and its double have the same frames: their scales tell them apart."""
    one, double = pack([FLOATS], "int8"), pack([2 * FLOATS], "int8")
    assert one.frames == double.frames
    assert parcel_digest(one) != parcel_digest(double)


def test_codecs_do_not_share_digests() -> None:
    """The price of looking at frames: lossless codecs of the same tensors are two inputs, and never a wrong answer."""
    assert parcel_digest(pack([FLOATS], "identity")) != parcel_digest(pack([FLOATS], "identity+zstd"))


@pytest.mark.parametrize("codec", ["identity", "identity+zstd"])
def test_the_sketch_is_that_of_the_decoded_tensors(codec: str) -> None:
    """However it travelled."""
    sketcher = Sketcher([TensorSpec(shape=FLOATS.shape, dtype="float32")])
    assert parcel_fingerprint(pack([FLOATS], codec), sketcher).sketch == fingerprint([FLOATS], sketcher).sketch
    assert parcel_fingerprint(pack([FLOATS], codec)).sketch is None
