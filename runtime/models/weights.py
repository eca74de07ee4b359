"""A graph's large weights apart from its nodes, so that a variant's many segments share one copy.

S stages have S(S+1)/2 segments, and a weight is in about S^2/4 of them.  ONNX Runtime takes weights from outside
(`SessionOptions.add_external_initializers`) before it optimises, so a session made this way is the one made otherwise.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from runtime.models.staged import StagedGraph

MIN_DETACHED_BYTES = 1024
"""Smaller tensors stay in the graph: shapes, axes and scales, which shape inference must see."""

_DTYPES = frozenset(("float32", "float16", "int8", "uint8", "int32", "int64"))
"""What safetensors and numpy both know."""


def detach_weights(graph: StagedGraph) -> tuple[StagedGraph, dict[str, np.ndarray]]:
    """The graph with large weights by name only, and those weights."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    arrays = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.nbytes >= MIN_DETACHED_BYTES and array.dtype.name in _DTYPES:
            arrays[tensor.name] = array
            tensor.CopyFrom(_reference(tensor))
    return StagedGraph(model, graph.cuts, graph.exit_outputs, graph.exit_ends), arrays


def detached_names(piece: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the weights that a segment takes from outside."""
    return tuple(tensor.name for tensor in piece.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL)


def _reference(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A tensor's name, type and shape; ONNX wants a location, which nothing ever opens."""
    reference = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    reference.data_location = onnx.TensorProto.EXTERNAL
    reference.external_data.add(key="location", value="weights")
    return reference
