"""Half precision: weights and activations in float16, a half of the bytes on disk and at every cut behind the input.

It saves bytes, not time: on x86 ONNX Runtime's CPU provider has no float16 convolutions, so it converts to float32 around
them (measured, a residual network at batch 1: 1.25 times the time of fp32).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from runtime.models.staged import StagedGraph


def half(graph: StagedGraph, calibration: np.ndarray) -> StagedGraph:
    """The graph in float16 between its inputs and its logits, which stay as they are.

    Weights too small for float16 become its smallest, those too large its largest; activations above 65504 overflow.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    converted = convert_float_to_float16(model, keep_io_types=True)
    return StagedGraph(converted, graph.cuts, graph.exit_outputs, graph.exit_ends)
