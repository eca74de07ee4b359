"""Staging a variant like its reference, on graphs written by hand: what fits, what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from runtime.errors import InvalidModel
from runtime.models.alike import stage_alike
from runtime.models.staged import StagedGraph
from runtime.models.staging import stage
from tests.runtime.models.graphs import SHAPE, GraphWriter, assert_splits_transparently, chain_of_blocks, run


@pytest.fixture(scope="module")
def reference() -> StagedGraph:
    """Three residual blocks, an exit behind the first."""
    return stage(chain_of_blocks(3, (1,)))


def prefixed(*ops: str, at_skip: bool = False) -> onnx.ModelProto:
    """The same three blocks behind a chain of operators."""
    writer = GraphWriter(7)
    source = "x"
    for op in ops:
        source = writer.add(op, source)
    at = writer.conv(source)
    outputs = []
    for number in range(3):
        first = writer.conv(at)
        skip = "x" if at_skip and number == 0 else at
        at = writer.add("Relu", writer.add("Add", skip, writer.conv(writer.add("Relu", first))))
        if number == 0:
            outputs.append(writer.head(at))
    return writer.model([*outputs, writer.head(at)])


def check(model: onnx.ModelProto, reference: StagedGraph) -> None:
    graph = stage_alike(model, reference)
    assert graph.exit_ends == reference.exit_ends
    assert [len(cut) for cut in graph.cuts] == [len(cut) for cut in reference.cuts]
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert_splits_transparently(graph, [image], run(model, [image]))


def test_other_widths_are_alike(reference: StagedGraph) -> None:
    """Other weights and channels change no cut but its shapes."""
    slim = chain_of_blocks(3, (1,), seed=5, channels=4)
    wide = chain_of_blocks(3, (1,), seed=6, channels=8)
    check(slim, reference)
    assert [spec.shape[1] for spec in stage_alike(wide, reference).specs(1)] == [8] * len(reference.cuts[1])


@pytest.mark.parametrize("ops", [(), ("Neg",), ("Neg", "Tanh", "Abs")])
def test_a_prefix_joins_the_first_stage(reference: StagedGraph, ops: tuple[str, ...]) -> None:
    """Operators between the input and the first of the reference's become part of stage 0."""
    check(prefixed(*ops), reference)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (chain_of_blocks(2, (1,)), "operation 14 is GlobalAveragePool, the reference has Conv"),
        (chain_of_blocks(4, (1,)), "operation 19"),
        (chain_of_blocks(3), "operation 6 is Conv, the reference has GlobalAveragePool"),
        (prefixed("Neg", at_skip=True), "topology is not the reference's"),
    ],
    ids=["a block less", "a block more", "no early exit", "other wiring"],
)
def test_other_topologies_are_refused(reference: StagedGraph, model: onnx.ModelProto, message: str) -> None:
    """More or fewer operators, other ones, or other wiring: the error says where they part."""
    with pytest.raises(InvalidModel, match=message):
        stage_alike(model, reference)
