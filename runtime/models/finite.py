"""Cuts that can be sent at all: what crosses a link is finite, or the engine that receives it refuses it.

A mask of minus infinity, as attention has it before the softmax, is right inside a segment and cannot leave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort

from runtime.errors import InvalidModel
from runtime.models.cutting import Candidate

FATAL = 4
"""ONNX Runtime's highest severity of a log line."""


def finite_cuts(model: onnx.ModelProto, candidates: Sequence[Candidate], example: np.ndarray) -> tuple[Candidate, ...]:
    """Those of a graph's cuts whose tensors are finite for one example, a graph of one input with inferred shapes.

    Raises InvalidModel when the graph does not run, and where the values must be sent: at the input, and where exits leave.
    """
    names = sorted({name for candidate in candidates for name in candidate.tensors})
    values = _run(model, names, example)
    infinite = {name for name, value in values.items() if value.dtype.kind == "f" and not np.isfinite(value).all()}
    kept = tuple(candidate for candidate in candidates if infinite.isdisjoint(candidate.tensors))
    lost = [candidate.position for candidate in candidates if candidate not in kept and (candidate.exits or not candidate.position)]
    if lost:
        raise InvalidModel(
            f"an example has NaN or infinity after {lost} operations of the trunk, where an exit leaves or the last layer begins:"
            " tensors that cross a cut must be finite; let the exit branch off elsewhere"
        )
    return kept


def _run(model: onnx.ModelProto, names: Sequence[str], example: np.ndarray) -> Mapping[str, np.ndarray]:
    """The named tensors of one run."""
    (given,) = (value.name for value in model.graph.input)
    known = {value.name: value for value in model.graph.value_info}
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    there = {value.name for value in (*model.graph.output, *model.graph.input)}
    opened.graph.output.extend(known[name] for name in names if name not in there)
    wanted = [name for name in names if name != given]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = FATAL  # that it does not run is an error of ours, with its reason
    try:
        session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(wanted, {given: example})
    except Exception as exc:  # ONNX Runtime's own classes have no common base
        raise InvalidModel(f"ONNX Runtime does not run the network on an example: {exc}") from exc
    return {given: example, **dict(zip(wanted, found, strict=True))}
