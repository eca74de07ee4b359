"""Weights kept beside the graphs: the same results, one copy."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from runtime.messages import TensorSpec
from runtime.models.examples import draw_examples
from runtime.models.manifest import payload_bytes
from runtime.models.staged import StagedGraph
from runtime.models.staging import stage
from runtime.models.variants import int8
from runtime.models.weights import MIN_DETACHED_BYTES, detach_weights, detached_names
from tests.runtime.models.graphs import SHAPE, assert_splits_transparently, chain_of_blocks, run

CHANNELS = 16


def quantised() -> StagedGraph:
    """The int8 form, of a network on uint8 images: what a picture's pixels are."""
    model = chain_of_blocks(2, (1,), channels=CHANNELS)
    cast = helper.make_node("Cast", ["image"], ["x"], name="cast", to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, SHAPE))
    graph = stage(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    return int8(graph, draw_examples(TensorSpec(shape=SHAPE, dtype="uint8"), 16, np.random.default_rng(0)).images)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def graph(request: pytest.FixtureRequest) -> StagedGraph:
    """A staged residual network with an early exit, in both variants."""
    return stage(chain_of_blocks(2, (1,), channels=CHANNELS)) if request.param == "fp32" else quantised()


def test_detached_segments_give_the_same_bits(graph: StagedGraph) -> None:
    """Every segment without its weights, given them by ONNX Runtime, computes exactly what the whole segment does."""
    thin, arrays = detach_weights(graph)
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
    for segment in graph.segments():
        piece = thin.extract(*segment)
        names = detached_names(piece)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_external_initializers(list(names), [values[name] for name in names])
        session = ort.InferenceSession(piece.SerializeToString(), options, providers=["CPUExecutionProvider"])
        specs = [TensorSpec(shape=tuple(value.shape), dtype=np_dtype(value.type)) for value in session.get_inputs()]
        tensors = [draw_examples(spec, 1, np.random.default_rng(3)).images[0] for spec in specs]
        feeds = {value.name: tensor for value, tensor in zip(session.get_inputs(), tensors, strict=True)}
        for got, expected in zip(session.run(None, feeds), run(graph.extract(*segment), tensors), strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=str(segment))


def test_detached_segments_are_small(graph: StagedGraph) -> None:
    """A segment without weights holds none of the large tensors, and the weights are those of the graph."""
    thin, arrays = detach_weights(graph)
    assert all(array.nbytes >= MIN_DETACHED_BYTES for array in arrays.values())
    assert len(arrays) >= 4
    whole, small = (len(each.extract(0, graph.num_stages, None).SerializeToString()) for each in (graph, thin))
    inside = detached_names(thin.extract(0, graph.num_stages, None))
    assert whole - small > 0.95 * sum(arrays[name].nbytes for name in inside)


def test_quantised_stages_split_transparently() -> None:
    """In int8, with cuts found automatically, the parts in a row are the whole to the last bit."""
    graph = quantised()
    image = draw_examples(TensorSpec(shape=SHAPE, dtype="uint8"), 1, np.random.default_rng(4)).images[0]
    wholes = [run(graph.extract(0, end, exit), [image])[0] for exit, end in enumerate(graph.exit_ends)]
    assert {spec.dtype for cut in range(graph.num_stages + 1) for spec in graph.specs(cut)} == {"uint8", "float32"}
    assert_splits_transparently(graph, [image], wholes, rtol=0)


def test_the_graph_is_left_alone(graph: StagedGraph) -> None:
    """Detaching makes another graph; the first one still has its weights."""
    before = graph.model.SerializeToString(deterministic=True)
    detach_weights(graph)
    assert graph.model.SerializeToString(deterministic=True) == before


def test_payload_bytes() -> None:
    """2x3 float32 and 5 uint8 are 29 bytes; a scalar is one item."""
    specs = [TensorSpec(shape=(2, 3), dtype="float32"), TensorSpec(shape=(5,), dtype="uint8")]
    assert payload_bytes(specs) == 29
    assert payload_bytes([TensorSpec(shape=(), dtype="int64")]) == 8


def test_every_dtype_of_the_wire_has_a_size() -> None:
    """What a tensor on the wire may be, a manifest can measure."""
    for dtype in ("float32", "float16", "uint8", "int8", "int32", "int64"):
        spec = msgspec.convert({"shape": (3,), "dtype": dtype}, TensorSpec)
        assert payload_bytes([spec]) == np.zeros(3, dtype=dtype).nbytes


def np_dtype(kind: str) -> str:
    """ONNX Runtime's name of a tensor type, as numpy's."""
    return {"tensor(float)": "float32", "tensor(uint8)": "uint8"}[kind]
