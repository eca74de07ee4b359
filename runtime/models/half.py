"""Half precision: weights and activations in float16, a half of the bytes on disk and at every cut behind the input.

It saves bytes, not time: on x86 ONNX Runtime's CPU provider has no float16 convolutions, so it converts to float32 around
them (measured, a residual network at batch 1: 1.25 times the time of fp32).
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from runtime.errors import InvalidModel
from runtime.models.finite import FATAL
from runtime.models.staged import StagedGraph


def half(graph: StagedGraph, calibration: np.ndarray) -> StagedGraph:
    """The graph in float16 between its inputs and its logits, which stay as they are.

    Weights too small for float16 become its smallest, those too large its largest; activations above 65504 overflow.
    Raises InvalidModel for a graph whose conversion does not run.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    try:
        converted = convert_float_to_float16(model, keep_io_types=True)
        OnnxModel(converted).topological_sort(is_deterministic=True)  # the converter puts all its casts last
        renamed = _renamed(converted.graph)
        cuts = [graph.cuts[0], *([renamed.get(name, name) for name in cut] for cut in graph.cuts[1:])]
        staged = StagedGraph(_typed(converted), cuts, graph.exit_outputs, graph.exit_ends)
        ort.InferenceSession(staged.model.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"])
    except InvalidModel:
        raise
    except Exception as exc:  # of the converter, of onnx's checks or of ONNX Runtime: they have no common base
        raise InvalidModel(f"the network cannot be had in half precision: {exc}; leave `half` out of its variants") from exc
    return staged


def _quiet() -> ort.SessionOptions:
    """That a graph does not load is an answer here, and no error to print."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = FATAL
    return options


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """With types inferred anew, since the converter notes float16 where operators that it spares give float32; shapes are kept."""
    shapes = {value.name: value.type.tensor_type.shape for value in model.graph.value_info}
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare)
    for value in inferred.graph.value_info:
        if value.name in shapes:
            value.type.tensor_type.shape.CopyFrom(shapes[value.name])
    return inferred


def _renamed(graph: onnx.GraphProto) -> dict[str, str]:
    """Float input or output -> what the nodes inside read in its place, in float16."""
    outputs = {value.name for value in graph.output}
    casts = [(node.input[0], node.output[0], node.attribute[0].i) for node in graph.node if node.op_type == "Cast"]
    floats = {value.name for value in graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    at_inputs = {source: result for source, result, to in casts if source in floats and to == onnx.TensorProto.FLOAT16}
    at_outputs = {result: source for source, result, to in casts if result in outputs and to == onnx.TensorProto.FLOAT}
    return at_inputs | at_outputs
