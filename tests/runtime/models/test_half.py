"""Half precision of graphs that the converter alone leaves broken."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from runtime.models.half import half
from runtime.models.staged import StagedGraph
from runtime.models.staging import stage
from tests.runtime.models.graphs import CHANNELS, SHAPE, GraphWriter, run


def chain(writer: GraphWriter) -> list[str]:
    """Convolutions on a float input, whose converter's cast is needed first."""
    return [writer.head(writer.block(writer.conv("x")))]


def cascade(writer: GraphWriter) -> list[str]:
    """The second exit adds the first one's logits: an output that is read inside too."""
    at = writer.block(writer.conv("x"))
    first = writer.head(at)
    return [first, writer.add("Add", writer.head(writer.block(at)), first)]


def largest(writer: GraphWriter) -> list[str]:
    """TopK has no float16: it is spared, between two casts."""
    writer.weights.append(numpy_helper.from_array(np.array([2], np.int64), "k"))
    flat = writer.add("Flatten", writer.block(writer.conv("x")), axis=2)
    writer.add("TopK", flat, "k", axis=1)
    writer.nodes[-1].output.append("indices")
    return [writer.add("Gemm", writer.nodes[-1].output[0], writer.weight(2, 3))]


def resized(writer: GraphWriter) -> list[str]:
    """Resize takes its scales in float32 only; what it gives joins the input, past all cuts."""
    writer.weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    pooled = writer.add("AveragePool", writer.conv("x"), kernel_shape=[2, 2], strides=[2, 2])
    return [writer.head(writer.add("Add", writer.add("Resize", writer.conv(pooled), "", "scales"), "x"))]


@pytest.mark.parametrize("write", [chain, cascade, resized])
def test_graphs_survive_in_half_precision(write: object) -> None:
    """Float input or not, whole and in two parts at any cut the answers are those of float32, up to rounding."""
    writer = GraphWriter()
    graph = stage(writer.model(write(writer)))  # type: ignore[operator]
    check(graph)


def test_spared_operators_keep_their_type() -> None:
    """A graph with an operator that has no float16 runs as well."""
    writer = GraphWriter()
    model = writer.model(largest(writer))
    check(stage(model))


def check(graph: StagedGraph) -> None:
    """Halve it, run it whole and in two parts."""
    halved = half(graph, np.zeros((1, *SHAPE), np.float32))
    picture = np.random.default_rng(0).normal(size=(1, CHANNELS, *SHAPE[2:])).astype(np.float32)
    for exit, end in enumerate(graph.exit_ends):
        (expected,) = run(graph.extract(0, end, exit), [picture])
        for cut in range(end + 1):
            tensors = run(halved.extract(0, cut, None), [picture]) if cut else [picture]
            (got,) = run(halved.extract(cut, end, exit), tensors)
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, expected, rtol=0, atol=0.01 * np.abs(expected).max())
    for cut in range(1, graph.num_stages + 1):
        assert {spec.dtype for spec in halved.specs(cut)} == {"float16"}
