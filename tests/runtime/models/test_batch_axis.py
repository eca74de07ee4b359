"""Opening the batch axis of segments: the same rows, the same results, and a refusal where that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import InvalidConfig
from runtime.inference.batching import stack, unstack
from runtime.models.batch_axis import BATCH, check_batch_axis, open_batch_axis, with_batch_axis
from runtime.models.examples import load_examples
from runtime.models.manifest import load_manifest


def session(model: onnx.ModelProto, **closed: int) -> ort.InferenceSession:
    """A session on one thread, with open axes closed where told."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for name, extent in closed.items():
        options.add_free_dimension_override_by_name(name, extent)
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


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_rows_of_a_batch_are_what_they_are_alone(digits_model: Path, variant: str) -> None:
    """Real pictures through a body and through the rest and its head: stacked, run once and unstacked, each has its own logits."""
    manifest = load_manifest(digits_model)
    info = manifest.variants[variant]
    images = [[image] for image in load_examples(digits_model, "test").images[:5]]
    rows = images
    for key, start in (("0-3", 0), ("3-7x2", 3)):
        segment = onnx.load(digits_model / info.segments[key].path)
        alone, together = session(segment), session(open_batch_axis(segment))
        name = alone.get_inputs()[0].name
        expected = [alone.run(None, {name: tensors[0]}) for tensors in rows]
        batch = stack(rows, info.cuts[start])
        rows = unstack(together.run(None, {name: batch[0]}), len(images))
        for found, wanted in zip(rows, expected, strict=True):
            np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-5 if wanted[0].dtype.kind == "f" else 1)


def test_every_segment_of_the_model_can_be_opened(digits_model: Path) -> None:
    """All pieces of both variants pass the check; their inputs and outputs keep names and types."""
    rng = np.random.default_rng(0)
    for info in load_manifest(digits_model).variants.values():
        for file in list(info.segments.values())[::7]:
            segment = onnx.load(digits_model / file.path)
            opened = open_batch_axis(segment)
            check_batch_axis(segment, opened, rng)
            for before, after in zip(
                (*segment.graph.input, *segment.graph.output), (*opened.graph.input, *opened.graph.output), strict=True
            ):
                assert (after.name, after.type.tensor_type.elem_type) == (before.name, before.type.tensor_type.elem_type)
                assert after.type.tensor_type.shape.dim[0].dim_param == BATCH


def test_batch_axis_can_be_closed_again(digits_model: Path) -> None:
    """A session that overrides the axis with 1 has the fixed shapes of old and gives the old results."""
    info = load_manifest(digits_model).variants["fp32"]
    segment = onnx.load(digits_model / info.segments["0-3x0"].path)
    closed = session(open_batch_axis(segment), **{BATCH: 1})
    assert closed.get_inputs()[0].shape == [1, 1, 64, 64]
    image = load_examples(digits_model, "test").images[0]
    np.testing.assert_array_equal(closed.run(None, {"image": image})[0], session(segment).run(None, {"image": image})[0])


def test_constant_reshape_keeps_its_batch() -> None:
    """[1, 2, 3] -> [1, 6] becomes [n, 2, 3] -> [n, 6]; another Reshape that shares the constant is unharmed."""
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["rows"]),
        helper.make_node("Reshape", ["bias", "flat"], ["row"]),
        helper.make_node("Cast", ["row"], ["offset"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["rows", "offset"], ["y"]),
    ]
    single = graph(nodes, {"flat": [1, 6], "bias": [0, 1, 2, 3, 4, 5]}, (1, 2, 3), (1, 6))
    opened = with_batch_axis(single, np.random.default_rng(0))
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    (y,) = session(opened).run(None, {"x": x})
    np.testing.assert_array_equal(y, x.reshape(4, 6) + np.arange(6))


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
