"""Updates and layouts."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.errors import InvalidTensor
from runtime.training.update import Layout, ParameterSpec, UpdateHeader, find_defect, make_update

SHAPES = st.lists(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), max_size=4)


def layout_of(shapes: list[tuple[int, ...]]) -> Layout:
    """Parameters named by position."""
    return Layout(parameters=tuple(ParameterSpec(name=f"p{index}", shape=shape) for index, shape in enumerate(shapes)))


@settings(max_examples=50)
@given(SHAPES, st.integers(0, 1000))
def test_flattening_and_back_is_the_identity(shapes: list[tuple[int, ...]], seed: int) -> None:
    """Scalars, empty arrays and no arrays at all included."""
    layout, rng = layout_of(shapes), np.random.default_rng(seed)
    arrays = [np.asarray(rng.normal(size=shape), np.float32) for shape in shapes]
    vector = layout.flatten(arrays)
    assert (vector.shape, vector.dtype) == ((layout.size(),), np.dtype(np.float32))
    for array, again in zip(arrays, layout.unflatten(vector), strict=True):
        np.testing.assert_array_equal(array, again)


def test_arrays_that_do_not_fit_the_layout_are_refused() -> None:
    """The message names both shapes."""
    layout = layout_of([(2, 3)])
    with pytest.raises(InvalidTensor, match=r"got shapes \[\(3, 2\)\], expected \[\(2, 3\)\]"):
        layout.flatten([np.zeros((3, 2), np.float32)])
    with pytest.raises(InvalidTensor, match=r"got shape \(5,\), expected \(6,\)"):
        layout.unflatten(np.zeros(5, np.float32))


def test_a_repeated_parameter_name_is_refused() -> None:
    """Names identify arrays."""
    spec = ParameterSpec(name="w", shape=(1,))
    with pytest.raises(InvalidTensor, match="must differ"):
        Layout(parameters=(spec, spec))


def test_defects_are_told_apart() -> None:
    """Shape first, then dtype, then values."""
    assert find_defect(np.zeros((2, 1), np.float32), 2) == "wrong_shape"
    assert find_defect(np.zeros(2), 2) == "wrong_dtype"
    assert find_defect(np.array([1.0, np.inf], np.float32), 2) == "not_finite"
    assert find_defect(np.zeros(2, np.float32), 2) is None


def test_headers_survive_the_wire_and_refuse_nonsense() -> None:
    """MessagePack and back; a client without examples cannot be weighed."""
    header = UpdateHeader(client="c", round=3, num_examples=10, num_local_steps=5, metrics={"loss": 0.5})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(header), type=UpdateHeader) == header
    for bad in ({"num_examples": 0}, {"round": -1}, {"client": ""}, {"num_local_steps": -1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"client": "c", "round": 0, "num_examples": 1} | bad, UpdateHeader)


def test_an_update_is_the_way_from_start_to_local() -> None:
    """local - start."""
    update = make_update(UpdateHeader(client="c", round=0, num_examples=1), local=np.float32([3, 1]), start=np.float32([1, 1]))
    np.testing.assert_array_equal(update.delta, [2.0, 0.0])
