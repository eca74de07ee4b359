"""Taking pieces out of a graph whose cuts carry one tensor or several."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import InvalidModel
from runtime.messages import TensorSpec
from runtime.models.staged import StagedGraph
from runtime.models.variants import int8
from tests.runtime.models.graphs import run

SHAPE = (1, 4, 6, 6)


def conv(name: str, source: str, result: str) -> tuple[onnx.NodeProto, onnx.TensorProto]:
    """A 3x3 convolution 4 -> 4 channels with random weights drawn from its name."""
    rng = np.random.default_rng(sum(name.encode()))
    weight = numpy_helper.from_array(rng.normal(size=(4, 4, 3, 3)).astype(np.float32) / 4, f"{name}.weight")
    node = helper.make_node("Conv", [source, weight.name], [result], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return node, weight


def skip_model() -> onnx.ModelProto:
    """image -> float -> a -> b -> c, with `a` added to `c` at the end: cuts inside the skip carry `a` as well.

    image --cast-- x --conv-- a --conv-- b --conv-- c --add-- sum --mean-- logits
                               \\___________________________/
    """
    convs = [conv("first", "x", "a"), conv("second", "a", "b"), conv("third", "b", "c")]
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        *(node for node, _ in convs),
        helper.make_node("Add", ["a", "c"], ["sum"], name="add"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "skip",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, SHAPE)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 4))],
        initializer=[weight for _, weight in convs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


CUTS = [["image"], ["a"], ["a", "b"], ["a", "c"], ["sum"]]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def skip_graph(request: pytest.FixtureRequest) -> StagedGraph:
    """The skip network staged, in both variants."""
    graph = StagedGraph(skip_model(), CUTS, ["logits"], [4])
    calibration = np.random.default_rng(0).integers(0, 256, (20, *SHAPE)).astype(np.uint8)
    return graph if request.param == "fp32" else int8(graph, calibration)


def test_skip_connection_splits_transparently(skip_graph: StagedGraph) -> None:
    """Three parts in a row equal the whole at every pair of cuts, those inside the skip included."""
    image = np.random.default_rng(1).integers(0, 256, SHAPE).astype(np.uint8)
    (whole,) = run(skip_graph.extract(0, 4, 0), [image])
    for p, q in combinations_with_replacement(range(5), 2):
        tensors = [image]
        for start, stop, exit in ((0, p, None), (p, q, None), (q, 4, 0)):
            if stop > start or exit is not None:
                tensors = run(skip_graph.extract(start, stop, exit), tensors)
        np.testing.assert_allclose(tensors[0], whole, rtol=1e-5, err_msg=f"cuts {p}, {q}")


def test_quantised_cuts_carry_bytes() -> None:
    """In int8, each tensor behind the input crosses a cut as uint8 of the same shape; the input is as it was."""
    calibration = np.random.default_rng(0).integers(0, 256, (20, *SHAPE)).astype(np.uint8)
    graph = int8(StagedGraph(skip_model(), CUTS, ["logits"], [4]), calibration)
    spec = TensorSpec(shape=SHAPE, dtype="uint8")
    assert [graph.specs(cut) for cut in range(5)] == [(spec,), (spec,), (spec, spec), (spec, spec), (spec,)]


def test_piece_holds_only_its_own_weights() -> None:
    """A piece carries the nodes and weights of its stages and nothing else."""
    piece = StagedGraph(skip_model(), CUTS, ["logits"], [4]).extract(1, 2, None)
    assert [weight.name for weight in piece.graph.initializer] == ["second.weight"]
    assert [node.op_type for node in piece.graph.node] == ["Conv", "Identity"]


def test_cut_that_does_not_separate_is_refused() -> None:
    """A cut that forgets the skip connection is named, with the input it lets through."""
    graph = StagedGraph(skip_model(), [["image"], ["a"], ["b"], ["a", "c"], ["sum"]], ["logits"], [4])
    with pytest.raises(InvalidModel, match=r"cut \['b'\] does not separate"):
        graph.extract(2, 4, 0)


def test_open_shapes_are_refused() -> None:
    """A cut's size must be known before anything runs."""
    model = skip_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(InvalidModel, match="no fixed shape"):
        StagedGraph(model, CUTS, ["logits"], [4]).specs(0)


def test_control_flow_is_refused() -> None:
    """A graph inside a node could reach around a cut."""
    model = skip_model()
    body = helper.make_graph([], "body", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)])
    model.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, ()))
    model.graph.node.append(helper.make_node("If", ["flag"], ["chosen"], then_branch=body, else_branch=body))
    with pytest.raises(InvalidModel, match="If, Loop or Scan"):
        StagedGraph(model, CUTS, ["logits"], [4])


def test_segments_of_a_graph() -> None:
    """S stages have S(S+1)/2 bodies, and each exit its end + 1 ways to be reached."""
    segments = StagedGraph(skip_model(), CUTS, ["logits"], [4]).segments()
    assert len(segments) == 10 + 5
    assert len(set(segments)) == len(segments)


def test_size_is_what_a_whole_stored_segment_has() -> None:
    """Notes of the exporter for its reader, which are not stored, do not count."""
    graph = StagedGraph(skip_model(), [["image"], ["a"], ["a", "b"]], ["logits"], [2])
    plain = graph.size_bytes
    for node in graph.model.graph.node:
        node.metadata_props.add(key="stack_trace", value="somewhere " * 1000)
    assert graph.size_bytes == plain
    stored = len(graph.extract(0, 2, 0).SerializeToString())
    assert abs(graph.size_bytes - stored) < 200
