"""Opening the batch axis of segments: the same rows, the same results, and a refusal where that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import InvalidConfig
from runtime.models.batch_axis import BATCH, check_batch_axis, has_batch_axis, open_batch_axis, with_batch_axis
from runtime.models.manifest import load_manifest


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def graph(
    nodes: list[onnx.NodeProto], constants: dict[str, list[int]], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> onnx.ModelProto:
    """A float model x -> y of batch one with integer constants."""
    weights = [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in constants.items()]
    body = helper.make_graph(
        nodes,
        "segment",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        initializer=weights,
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_every_segment_of_a_built_model_is_open(digits_model: Path) -> None:
    """All pieces of all variants were opened and passed the check, and the manifest says so."""
    for info in load_manifest(digits_model).variants.values():
        assert all(file.any_batch for file in info.segments.values())
        for file in list(info.segments.values())[::7]:
            segment = onnx.load(digits_model / file.path, load_external_data=False)
            assert has_batch_axis(segment)
            assert [value.type.tensor_type.shape.dim[0].dim_param for value in segment.graph.output] == [BATCH]


def test_weights_kept_elsewhere_are_those_of_the_check() -> None:
    """A segment whose weights are by name only is opened with them at hand, and still has them by name."""
    single = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {}, (1, 3), (1, 2))
    reference = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(3, 2), data_location=TensorProto.EXTERNAL)
    reference.external_data.add(key="location", value="weights")
    single.graph.initializer.append(reference)
    opened = with_batch_axis(single, np.random.default_rng(0), {"w": np.arange(6, dtype=np.float32).reshape(3, 2)})
    assert has_batch_axis(opened)
    assert not has_batch_axis(single)
    assert list(opened.graph.initializer) == [reference]


@pytest.mark.parametrize("allowzero", [0, 1])
def test_constant_reshape_keeps_its_batch(allowzero: int) -> None:
    """[1, 2, 3] -> [1, 6] becomes [n, 2, 3] -> [n, 6]; another Reshape that shares the constant is unharmed."""
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["rows"], allowzero=allowzero),
        helper.make_node("Reshape", ["bias", "flat"], ["row"]),
        helper.make_node("Cast", ["row"], ["offset"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["rows", "offset"], ["y"]),
    ]
    single = graph(nodes, {"flat": [1, 6], "bias": [0, 1, 2, 3, 4, 5]}, (1, 2, 3), (1, 6))
    opened = with_batch_axis(single, np.random.default_rng(0))
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    (y,) = session(opened).run(None, {"x": x})
    np.testing.assert_array_equal(y, x.reshape(4, 6) + np.arange(6))


def test_no_constant_is_left_unread() -> None:
    """The shape for a batch of one goes when all that read it read another."""
    single = graph([helper.make_node("Reshape", ["x", "flat"], ["y"])], {"flat": [1, 6], "other": [1]}, (1, 2, 3), (1, 6))
    assert {tensor.name for tensor in open_batch_axis(single).graph.initializer} == {"other", "y_shape"}


def test_model_given_is_left_alone() -> None:
    """The segment of batch one stays what it was."""
    single = graph([helper.make_node("Relu", ["x"], ["y"])], {}, (1, 3), (1, 3))
    before = single.SerializeToString(deterministic=True)
    open_batch_axis(single)
    assert single.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_no_leading_axis_of_one_is_refused(shape: tuple[int, ...]) -> None:
    """There is no batch axis to open."""
    with pytest.raises(InvalidConfig, match="no leading batch axis of one"):
        open_batch_axis(graph([helper.make_node("Relu", ["x"], ["y"])], {}, shape, shape))


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)], {"axes": [0]}),
        ([helper.make_node("Slice", ["x", "from", "to"], ["y"])], {"from": [0], "to": [1]}),
    ],
)
def test_batch_that_does_not_reach_the_output_is_refused(nodes: list[onnx.NodeProto], constants: dict[str, list[int]]) -> None:
    """Sums over the batch, or its first row, have no row for each request."""
    with pytest.raises(InvalidConfig, match="y"):
        open_batch_axis(graph(nodes, constants, (1, 3), (1, 3)))


def test_mixed_batch_is_refused() -> None:
    """A softmax over the batch has the right shape and is wrong: running it tells."""
    single = graph([helper.make_node("Softmax", ["x"], ["y"], axis=0)], {}, (1, 3), (1, 3))
    with pytest.raises(InvalidConfig, match="mixes its batch"):
        check_batch_axis(single, open_batch_axis(single), np.random.default_rng(0))
    assert with_batch_axis(single, np.random.default_rng(0)) is single


@pytest.mark.parametrize(("rows", "opened"), [(4, True), (1, False)])
def test_indices_are_tried_within_their_table(rows: int, opened: bool) -> None:
    """A segment that takes indices is opened where small ones run; where none do it stays as it is, and nothing is raised."""
    table = numpy_helper.from_array(np.ones((rows, 3), np.float32), "table")
    body = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "segment",
        [helper.make_tensor_value_info("x", TensorProto.INT64, (1, 40))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 40, 3))],
        initializer=[table],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert has_batch_axis(with_batch_axis(model, np.random.default_rng(0))) == opened
