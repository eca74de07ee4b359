"""Graphs made for tests: residual networks written node by node, and how a model is run."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from runtime.models.staged import StagedGraph

CHANNELS, SIDE = 4, 6
SHAPE = (1, CHANNELS, SIDE, SIDE)


class GraphWriter:
    """Collects nodes and weights; each method adds an operator and returns its output's name."""

    def __init__(self, seed: int = 0, channels: int = CHANNELS) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels = channels
        self._rng = np.random.default_rng(seed)

    def add(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """Any operator with one output."""
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=f"n{len(self.nodes)}", **attributes))
        return output

    def weight(self, *shape: int) -> str:
        """A random float32 tensor, scaled so that layers keep the size of their input."""
        name = f"w{len(self.weights)}"
        values = self._rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(self, source: str, *, in_channels: int | None = None) -> str:
        """A 3x3 convolution that keeps the shape."""
        weight = self.weight(self.channels, in_channels or self.channels, 3, 3)
        return self.add("Conv", source, weight, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def block(self, source: str) -> str:
        """relu(x + conv(relu(conv(x))))"""
        return self.add("Relu", self.add("Add", source, self.conv(self.add("Relu", self.conv(source)))))

    def head(self, source: str, num_classes: int = 3) -> str:
        """Global average pooling and a linear classifier."""
        return self.add("Gemm", self.add("Flatten", self.add("GlobalAveragePool", source)), self.weight(self.channels, num_classes))

    def model(self, outputs: list[str], shape: tuple[int, ...] = SHAPE) -> onnx.ModelProto:
        """What was written, with one float input "x" and shapes inferred."""
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            initializer=self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def chain_of_blocks(blocks: int, exits: tuple[int, ...] = (), *, seed: int = 0, channels: int = CHANNELS) -> onnx.ModelProto:
    """A stem, residual blocks, an exit behind each of the blocks numbered in `exits` (from 1), and the last one."""
    writer = GraphWriter(seed, channels)
    at, outputs = writer.conv("x", in_channels=CHANNELS), []
    for number in range(1, blocks + 1):
        at = writer.block(at)
        if number in exits:
            outputs.append(writer.head(at))
    return writer.model([*outputs, writer.head(at)])


def run(model: onnx.ModelProto, tensors: list[np.ndarray]) -> list[np.ndarray]:
    """Run a model on ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # a pool of more spins while it waits
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    outputs: list[np.ndarray] = session.run(None, dict(zip(names, tensors, strict=True)))
    return outputs


def assert_splits_transparently(graph: StagedGraph, inputs: list[np.ndarray], wholes: list[np.ndarray], rtol: float = 1e-5) -> None:
    """At every cut and exit, tail(head(x)) is model(x), up to `rtol` of its largest value."""
    for cut in range(graph.num_stages + 1):
        middle = run(graph.extract(0, cut, None), inputs) if cut else inputs
        for exit, (end, whole) in enumerate(zip(graph.exit_ends, wholes, strict=True)):
            if cut <= end:
                (result,) = run(graph.extract(cut, end, exit), middle)
                np.testing.assert_allclose(result, whole, rtol=0, atol=rtol * np.abs(whole).max(), err_msg=f"cut {cut}, exit {exit}")
