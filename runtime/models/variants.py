"""Physical forms of a model: each variant is a function from the fp32 graph to another staged graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from runtime.errors import InvalidModel
from runtime.models.half import half
from runtime.models.staged import StagedGraph

NUM_CALIBRATION = 128
QUANTISED_OPS = ["Add", "Clip", "Concat", "Conv", "MaxPool", "Relu"]
"""The trunk's.  Heads stay in float: a few microseconds, and their logits keep their resolution."""


def fp32(graph: StagedGraph, calibration: np.ndarray) -> StagedGraph:
    """The graph as it is."""
    return graph


def int8(graph: StagedGraph, calibration: np.ndarray) -> StagedGraph:
    """Static quantisation to uint8 activations and int8 weights; `calibration` is uint8 [N, 1, C, H, W].

    Cuts move from the float tensors to their quantised forms: a quarter of the bytes, and nothing is rounded twice.
    Weights use 7 bits (`reduce_range`), because AVX2 without VNNI saturates on 8.  The first convolution stays in
    float: on one input channel ONNX Runtime's int8 kernel took 79 us where the float one took 17 us.
    Raises InvalidModel for a network without convolutions: nothing else in it would become smaller.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    first = next((node for node in model.graph.node if node.op_type == "Conv"), None)
    if first is None:
        raise InvalidModel("an int8 variant needs convolutions, this network has none: leave it out of the model's variants")
    add_pre_process_metadata(model)  # shapes are inferred and normalisations folded: its pre-processing has nothing to do
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            str(path),
            _Calibration(graph.cuts[0][0], calibration[:NUM_CALIBRATION]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTISED_OPS,
            nodes_to_exclude=[first.name],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        quantised = onnx.load(path)
    renamed = {node.input[0]: node.output[0] for node in quantised.graph.node if node.op_type == "QuantizeLinear"}
    cuts = [graph.cuts[0], *([renamed.get(name, name) for name in cut] for cut in graph.cuts[1:])]
    return StagedGraph(quantised, cuts, graph.exit_outputs, graph.exit_ends)


VARIANTS: dict[str, Callable[[StagedGraph, np.ndarray], StagedGraph]] = {"fp32": fp32, "half": half, "int8": int8}


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Hands the quantiser one picture after another."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self._feeds = iter([{name: image} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)
