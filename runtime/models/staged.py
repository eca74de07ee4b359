"""An ONNX graph with its cuts, and how a runnable piece of it is taken out.

Works on any graph: a cut is a list of tensors that separates what comes before from what comes after,
so a graph with skip connections has cuts of several tensors.  A piece is found from its outputs backwards:

    outputs wanted  ->  nodes that make them  ->  their inputs  -> ... ->  stop at the piece's inputs and at weights

Reaching the image or the start of the graph without having met the cut means that the cut does not separate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec
import onnx
from onnx import helper

from runtime.errors import InvalidModel
from runtime.messages import TensorSpec

IR_VERSION = 10
"""Older than what the installed onnx writes by default, so that every ONNX Runtime since 1.18 loads it."""


class StagedGraph:
    """A whole model in one variant: graph, `cuts[k]` the tensor names of cut k, and where each exit leaves it.

    `cuts[0]` are the graph's inputs; exit e needs `exit_ends[e]` stages and yields the tensor `exit_outputs[e]`.
    """

    def __init__(
        self, model: onnx.ModelProto, cuts: Sequence[Sequence[str]], exit_outputs: Sequence[str], exit_ends: Sequence[int]
    ) -> None:
        self.model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        self.cuts = tuple(tuple(cut) for cut in cuts)
        self.exit_outputs = tuple(exit_outputs)
        self.exit_ends = tuple(exit_ends)
        if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
            raise InvalidModel("a graph with If, Loop or Scan cannot be staged: their bodies reach around cuts")

    @property
    def num_stages(self) -> int:
        """S"""
        return len(self.cuts) - 1

    @property
    def size_bytes(self) -> int:
        """The whole graph with its weights and nothing else, as its segments are stored."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.value_info[:]
        _strip(model.graph)
        return int(model.ByteSize())

    def specs(self, cut: int) -> tuple[TensorSpec, ...]:
        """Shape and dtype of each tensor of a cut."""
        return tuple(tensor_spec(self._values.get(name), name) for name in self.cuts[cut])

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Shape and dtype of what each exit yields."""
        return tuple(tensor_spec(self._values.get(name), name) for name in self.exit_outputs)

    def segments(self) -> list[tuple[int, int, int | None]]:
        """All (start, stop, exit) there are: bodies i < j, and i <= j = exit_ends[e] with exit e's head behind."""
        bodies: list[tuple[int, int, int | None]] = [(i, j, None) for j in range(1, self.num_stages + 1) for i in range(j)]
        return bodies + [(i, end, exit) for exit, end in enumerate(self.exit_ends) for i in range(end + 1)]

    def extract(self, start: int, stop: int, exit: int | None) -> onnx.ModelProto:
        """A model of its own: stages [start, stop), then exit's head where one is given."""
        inputs = self.cuts[start]
        outputs = self.cuts[stop] if exit is None else (self.exit_outputs[exit],)
        nodes, weights = self._needed(inputs, outputs)
        return self._assemble(inputs, outputs, nodes, weights)

    def _needed(self, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[set[int], set[str]]:
        """Indices of the nodes, and names of the weights, on the way from `inputs` to `outputs`."""
        nodes: set[int] = set()
        weights: set[str] = set()
        seen = {*inputs, ""}
        stack = [name for name in outputs if name not in seen]
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self._weights:
                weights.add(name)
            elif name in self._producers:
                nodes.add(self._producers[name])
                stack.extend(self.model.graph.node[self._producers[name]].input)
            else:
                raise InvalidModel(f"cut {list(inputs)} does not separate {list(outputs)} from the graph's input {name!r}")
        return nodes, weights

    def _assemble(self, inputs: Sequence[str], outputs: Sequence[str], nodes: set[int], weights: set[str]) -> onnx.ModelProto:
        body = [node for index, node in enumerate(self.model.graph.node) if index in nodes]
        out_values = []
        for name in outputs:
            value = onnx.ValueInfoProto()
            value.CopyFrom(self._values[name])
            if name in inputs:  # a skip connection passes this piece by: ONNX wants a node between input and output
                value.name = f"{name}_passed"
                body.append(helper.make_node("Identity", [name], [value.name]))
            out_values.append(value)
        graph = helper.make_graph(
            body,
            "segment",
            [self._values[name] for name in inputs],
            out_values,
            initializer=[weight for name, weight in self._weights.items() if name in weights],
        )
        _strip(graph)
        model = helper.make_model(graph, opset_imports=list(self.model.opset_import), producer_name="drlctl")
        model.ir_version = min(self.model.ir_version, IR_VERSION)
        check_well_formed(model)
        return model

    @cached_property
    def _producers(self) -> dict[str, int]:
        return {name: index for index, node in enumerate(self.model.graph.node) for name in node.output}

    @cached_property
    def _weights(self) -> dict[str, onnx.TensorProto]:
        return {weight.name: weight for weight in self.model.graph.initializer}

    @cached_property
    def _values(self) -> dict[str, onnx.ValueInfoProto]:
        graph = self.model.graph
        return {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}


def _strip(graph: onnx.GraphProto) -> None:
    """Take out what only the exporter's reader wants: stack traces are most of a segment without weights."""
    for node in graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")


def check_well_formed(model: onnx.ModelProto) -> None:
    """Raise onnx's ValidationError unless the model is well formed.  Weights kept elsewhere pass for inputs: it would open their files."""
    checked = onnx.ModelProto()
    checked.CopyFrom(model)
    weights = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    kept = [tensor for tensor in model.graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    del checked.graph.initializer[:]
    checked.graph.initializer.extend(kept)
    checked.graph.input.extend(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in weights)
    onnx.checker.check_model(checked)


def tensor_spec(value: onnx.ValueInfoProto | None, name: str) -> TensorSpec:
    """What a typed ONNX value looks like on the wire.  Raises InvalidModel for an open shape or a dtype that is not sent."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        raise InvalidModel(f"tensor {name!r} has no known shape")
    kind = value.type.tensor_type
    shape = tuple(extent.dim_value for extent in kind.shape.dim)
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    if any(extent < 1 for extent in shape):
        raise InvalidModel(f"tensor {name!r} has no fixed shape, got {shape}")
    try:
        return msgspec.convert({"shape": shape, "dtype": dtype}, TensorSpec)
    except msgspec.ValidationError as exc:
        raise InvalidModel(f"tensor {name!r} cannot cross a link: {exc}") from exc
